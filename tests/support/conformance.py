"""The specs of Kubernetes' own conformance tests that the cluster of a twin passes, and the report of a run."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tests.support.log import ROOT

SOURCE = "tests/support/conformance.yaml"
FEWEST = 30
"""Number of specs that have to pass at least."""


@dataclass(frozen=True, slots=True)
class Report:
    """The result of each named spec."""

    passed: tuple[str, ...]
    failed: Mapping[str, str]
    """The first line of the failure by the name of the spec."""
    skipped: tuple[str, ...]
    """Named specs that were not run, or do not exist."""


def specs() -> list[str]:
    """Return the names of the specs that have to pass, in the order of the file."""
    return [*_read()["run"]]


def left_out() -> dict[str, list[str]]:
    """Return the names of the specs that cannot run here by the reason, such as an image of the internet."""
    return {each["reason"]: each["specs"] for each in _read()["left_out"]}


def focus(names: Sequence[str]) -> str:
    """Return the regular expression that selects the specs *names* alone; Ginkgo puts other words before a name."""
    return f"({'|'.join(map(re.escape, names))})$"


def report(path: Path, names: Sequence[str]) -> Report:
    """Return the results of the specs *names* from Ginkgo's report *path*."""
    found = {_name(spec): spec for suite in json.loads(path.read_text()) for spec in suite["SpecReports"]}
    states = {name: found.get(name, {}).get("State", "missing") for name in names}
    return Report(
        tuple(name for name in names if states[name] == "passed"),
        {
            name: found[name].get("Failure", {}).get("Message", states[name]).strip().partition("\n")[0]
            for name in names
            if states[name] not in ("passed", "skipped", "missing")
        },
        tuple(name for name in names if states[name] in ("skipped", "missing")),
    )


def _name(spec: Mapping[str, Any]) -> str:
    return " ".join([*(spec["ContainerHierarchyTexts"] or ()), spec["LeafNodeText"]])


def _read() -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load((ROOT / SOURCE).read_text())
    return content
