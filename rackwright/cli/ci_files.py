"""The files by which CI checks, previews, applies and audits all stacks of a project."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rackwright.cli.packages import REQUIREMENTS, Packages
from rackwright.cli.project_text import render
from rackwright.locations import stack_names

CI_TEXTS = {".github/workflows/rackwright.yaml": "github.yaml", ".gitlab-ci.yml": "gitlab.yaml"}
"""Files of a project whose packages are known, with the names of their texts in project_files/."""
PACKAGES = "packages"
"""Directory of a project with the wheel, which CI installs."""
CHECKOUT_ACTION = "actions/checkout@11bd71901bbe5b1630ceea73d27597364c9af683"
"""Version 4.2.2, by digest: its owner can move a tag."""
PYTHON = "python3.11"
"""The Python for which the requirements with their hashes are resolved; others may need other packages."""
CHECK_IMAGE = "python:3.11-slim@sha256:9c900dea9e8fb7e16277c179b555cc72d29a352dbc33cff48ad5a0412fd5bfc7"
RACK = "rack"
"""Target of a stack of real hosts."""
NAME = re.compile(r"[A-Za-z0-9._-]+", re.ASCII)
"""Names that Pulumi accepts for a stack: others have a meaning in YAML or a shell."""


@dataclass(frozen=True)
class ProjectStack:
    """A stack of the project, as far as CI needs to know it."""

    name: str
    target: str = RACK
    """`rack`, or the twin of the stack."""
    uses_hosts: bool = False
    """Whether its fleet has the hosts of another stack, which changes them first."""
    monitored: bool = False
    """Whether alerts of a monitoring wait for its audit, whose metrics CI delivers."""


def project_stacks(directory: Path) -> list[ProjectStack]:
    """Return the stacks of the project in *directory*: those of racks, and without one all of them.

    A stack comes after the stacks whose hosts it uses.
    """
    read = {name: _read_settings(directory, name) for name in stack_names(directory) if NAME.fullmatch(name)}
    fleets = {name: _read_fleet(directory, settings) for name, settings in read.items()}
    audited = {stack for fleet in fleets.values() for stack in _audited_by_ci(fleet)}
    stacks = [
        ProjectStack(name, str(read[name].get("rackwright:target", RACK)), "uses" in fleet, name in audited)
        for name, fleet in fleets.items()
        if "rackwright:fleet" in read[name]
    ]
    chosen = [stack for stack in stacks if stack.target == RACK] or stacks
    return sorted(chosen, key=lambda stack: (stack.uses_hosts, stack.name))


def ci_files(packages: Packages, stacks: Sequence[ProjectStack], index_url: str = "") -> dict[str, str | bytes]:
    """Return the contents of the files by which CI installs *packages* and works on *stacks*, by path."""
    index = f" --index-url {index_url}" if index_url else ""
    options = f"--require-hashes --only-binary :all:{index} --find-links {PACKAGES} -r {REQUIREMENTS}"
    names = {
        "CHECKOUT_ACTION": CHECKOUT_ACTION,
        "CHECK_IMAGE": CHECK_IMAGE,
        "INSTALL_COMMAND": f"{PYTHON} -m venv .venv && .venv/bin/pip install {options}",
        "MONITORED_NAMES": " ".join(stack.name for stack in stacks if stack.monitored),
        "STACK_NAMES": " ".join(stack.name for stack in stacks),
    }
    return {
        **{path: render(text, names) for path, text in CI_TEXTS.items()},
        REQUIREMENTS: packages.requirements,
        f"{PACKAGES}/{packages.wheel}": packages.content,
    }


def _read_settings(directory: Path, name: str) -> dict[str, Any]:
    """Return the settings of stack *name*; none without any."""
    from rackwright.fleet.source import read

    settings = read(directory / "stacks" / f"Pulumi.{name}.yaml").data.get("config")
    return dict(settings) if isinstance(settings, dict) else {}


def _read_fleet(directory: Path, settings: dict[str, Any]) -> dict[str, Any]:
    """Return the top of the fleet's file; nothing for a fleet in Python, and for a file that is not there."""
    from rackwright.fleet.source import read

    path = directory / "stacks" / str(settings.get("rackwright:fleet", ""))
    return dict(read(path).data) if path.suffix == ".yaml" and path.is_file() else {}


def _audited_by_ci(fleet: dict[str, Any]) -> set[str]:
    """Return the stacks that the monitoring of *fleet* waits for, without those that one of its hosts audits."""
    monitoring = fleet.get("monitoring")
    audits = monitoring.get("audits") if isinstance(monitoring, dict) else None
    return {*audits} - {*_audited_on_hosts(fleet)} if isinstance(audits, dict) else set()


def _audited_on_hosts(value: Any) -> list[str]:
    """Return the stacks of each role scheduled_audit below *value*."""
    if not isinstance(value, dict):
        return []
    own = value.get("scheduled_audit")
    stacks = own.get("stacks", []) if isinstance(own, dict) else []
    return [*map(str, stacks)] + [stack for each in value.values() for stack in _audited_on_hosts(each)]
