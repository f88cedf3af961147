"""Line 7: wrong fleets. The command a person types says the whole message, ends with 2, and opens no socket."""

import json
import os
import shutil
import sys
from pathlib import Path

from tests.accept.harness import ROOT, Log, check, need
from tests.accept.lab import PROJECT

WRONG = ROOT / "tests/declaration/wrong"
SORTS = {
    *("syntax", "duplicate-key", "unknown-key", "wrong-type", "missing-unit", "bad-unit", "duplicate-serial"),
    *("duplicate-mac", "duplicate-address", "duplicate-mount", "drive-in-two-tiers", "too-few-members"),
    *("nested-mount", "kernel-name", "unknown-group", "unknown-profile", "dangling-tier", "bad-cidr", "empty"),
    *("not-utf-8", "many"),
}
"""What has to be among the wrong fleets."""
DENIED = 97
HOOK = f"""\
import os, sys

def deny(event, arguments):
    # to look a number up asks nobody; Ansible does so when it is imported
    if event.startswith("socket.") and arguments[:1] != ("127.0.0.1",):
        os.write(2, f"a socket was asked for: {{event}}\\n".encode())
        os._exit({DENIED})

sys.addaudithook(deny)
"""
"""Python imports it at the start of every process."""


@check("foundation.7")
def wrong_fleets_are_told_whole(log: Log) -> str:
    """Every wrong fleet through `rackwright check`; stdout is empty and stderr as written beside the fleet."""
    fleets = sorted(WRONG.glob("*.yaml"))
    need({path.stem for path in fleets} >= SORTS, f"no such wrong fleet: {SORTS - {path.stem for path in fleets}}")
    messages = told_whole(log, "check", fleets)
    at_once = len((WRONG / "many.expected").read_text().splitlines())
    need(at_once >= 6, f"one file has to hold six errors at once, many.yaml holds {at_once}")
    return f"{len(fleets)} wrong fleets, {messages} messages as written, {at_once} at once in one file, no socket"


def told_whole(log: Log, command: str, fleets: list[Path]) -> int:
    """Give each wrong fleet to *command*, which may open no socket, and return how many messages there were.

    Raises:
        Short: one is told otherwise than it is written beside the fleet.
    """
    stacks = _project(log.empty_directory(), fleets)
    environment = {**os.environ, "PYTHONPATH": str(stacks.parent / "hook")}
    opened = log.run([sys.executable, "-c", "import socket; socket.socket()"], env=environment)
    need(opened.returncode == DENIED, f"a socket could be opened all the same: {opened.stderr}")
    log(f"{command} of {len(fleets)} wrong fleets")
    wrong, messages = [], 0
    for path in fleets:
        expected = path.with_suffix(".expected").read_text()
        count = len(expected.splitlines())
        argv = [str(ROOT / ".venv/bin/rackwright"), command, path.stem]
        done = log.run(argv, stacks, environment)
        whole = f"{expected}{count} error{'s' * (count > 1)}; nothing was done.\n"
        if (done.returncode, done.stdout, done.stderr) != (2, "", whole):
            wrong.append(path.stem)
        messages += count
    need(not wrong, f"told otherwise than written: {', '.join(wrong)}")
    return messages


def _project(directory: Path, fleets: list[Path]) -> Path:
    """Make a project with one stack for each of the wrong *fleets*, and return where their files stand."""
    (directory / "Pulumi.yaml").write_text(PROJECT)
    (directory / "hook").mkdir()
    (directory / "hook/sitecustomize.py").write_text(HOOK)
    stacks = directory / "stacks"
    stacks.mkdir()
    for path in fleets:
        shutil.copy(path, stacks)
        settings = {"rackwright:fleet": path.name, "rackwright:target": "rack"}
        (stacks / f"Pulumi.{path.stem}.yaml").write_text(json.dumps({"config": settings}))
    return stacks
