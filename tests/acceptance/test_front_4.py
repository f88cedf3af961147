"""Line 4: from one wheel to the next. Fleets migrate with their comments, and the new version takes over the state."""

import os
import shutil
from pathlib import Path

import pytest

from tests.support.acceptance import line
from tests.support.access_rack import fleet
from tests.support.expect import need
from tests.support.lab import Lab
from tests.support.log import ROOT, Log
from tests.support.wheels import build, install

HOST = "alpha"
ROLLOUT = "rollout: {max_unavailable: 1}  # one host after the other\n"
EDITS = {
    "rackwright/__init__.py": ('__version__ = "0.1.0"', '__version__ = "0.1.1"'),
    "rackwright/provider/state_format.py": ("STATE_FORMAT = ", "STATE_FORMAT = 1 + "),
    "rackwright/fleet/upgrade.py": (
        "MIGRATIONS: tuple[Migration, ...] = ()",
        'MIGRATIONS: tuple[Migration, ...] = (lambda content: rename(content, "rollout", "pace"),)',
    ),
}
"""The next version: another format of states, and another name for a key of fleets."""
RENAMED = (("    rollout: Rollout = Rollout()", "    pace: Rollout = Rollout()"), ("common.rollout", "common.pace"))


@line("front", 4)
def test_a_newer_wheel_migrates_the_fleet_and_takes_over_the_state(log: Log) -> str:
    if os.geteuid() != 0:
        pytest.skip("containers need root")
    directory = log.empty_directory()
    log("two wheels, the second with another key and another format of states")
    first = build(directory / "0.1.0")
    need(first.read_bytes() == build(directory / "again").read_bytes(), "a second build has other bytes")
    old = install(first, directory / "old")
    new = install(build(directory / "0.1.1", _next_version(directory / "next")), directory / "new")
    text = fleet([HOST], {"base": {"security_updates": False}}) + ROLLOUT
    with Lab(directory / "project", text, log, containers=[HOST], mirrors=True) as lab:
        before = lab.fleet_path.read_text()
        try:
            _use(lab, old)
            lab.start()
            lab.up()
            _use(lab, new)
            lab.rackwright("check", "lab", status=2)
            lab.rackwright("upgrade", "--check", status=1)
            lab.rackwright("upgrade", "--write", status=0)
            after = lab.fleet_path.read_text()
            need(ROLLOUT.replace("rollout:", "pace:").split() == after.splitlines()[-1].split(), f"it reads: {after}")
            lab.rackwright("preview", "lab", status=2)
            lab.rackwright("adopt", "lab", "--set-aside-state", status=0)
            lab.rackwright("preview", "lab", status=0)
        finally:
            lab.fleet_path.write_text(before)  # for this checkout, which stops the twin
    return "equal builds; the fleet kept its comment; the new version took over the state, and its preview was empty"


def _use(lab: Lab, programs: Path) -> None:
    """Let the commands and the Pulumi program of *lab* run the rackwright in *programs*."""
    lab.programs = programs
    link = lab.directory / ".venv"
    link.unlink()
    link.symlink_to(programs.parent)


def _next_version(directory: Path) -> Path:
    """Return a copy of this checkout, with the next version in it."""
    shutil.copytree(ROOT, directory, ignore=shutil.ignore_patterns(".*", "__pycache__", "dist", "tests"))
    edits = list(EDITS.items())
    edits += [("rackwright/fleet/yaml_fleet.py", edit) for edit in RENAMED]
    for name, (present, wanted) in edits:
        text = (directory / name).read_text()
        need(present in text, f"{name} has no longer {present!r}")
        (directory / name).write_text(text.replace(present, wanted))
    return directory
