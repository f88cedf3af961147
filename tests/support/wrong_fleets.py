"""Wrong fleets, which a command refuses without opening a socket."""

import os
import re
import shutil
import sys
from pathlib import Path

from tests.support.expect import need
from tests.support.lab import PROJECT
from tests.support.log import ROOT, Log
from tests.support.stack_settings import configure, encrypted_secrets

WRONG = ROOT / "tests/fleet/wrong"
FLEETS = sorted(path.name for path in WRONG.glob("*.yaml"))
DENIED = 97
HOOK = f"""\
import os, sys

def deny(event, arguments):
    # resolving a numeric address opens no connection; Ansible does that at its import
    if event.startswith("socket.") and arguments[:1] != ("127.0.0.1",):
        os.write(2, f"a socket was asked for: {{event}}\\n".encode())
        os._exit({DENIED})

sys.addaudithook(deny)
"""
"""Module that Python imports at the start of each process."""


def check_refusals(log: Log, command: str, fleets: list[Path]) -> int:
    """Run *command* on each wrong fleet without network access, and return the number of messages.

    Raises:
        pytest.fail.Exception: A message differs from the expected one beside the fleet.
    """
    stacks = _make_project(log.empty_directory(), fleets)
    environment = {**os.environ, "PYTHONPATH": str(stacks.parent / "hook")}
    opened = log.run([sys.executable, "-c", "import socket; socket.socket()"], env=environment)
    need(opened.returncode == DENIED, f"a socket could be opened all the same: {opened.stderr}")
    log(f"{command} of {len(fleets)} wrong fleets")
    wrong, messages = [], 0
    for path in fleets:
        expected = path.with_suffix(".expected").read_text()
        count = expected.count("error: ")
        argv = [str(ROOT / ".venv/bin/rackwright"), command, path.stem]
        done = log.run(argv, stacks, environment)
        whole = f"{expected}{count} error{'s' * (count > 1)}; nothing was done.\n"
        if (done.returncode, done.stdout, done.stderr) != (2, "", whole):
            wrong.append(path.stem)
        messages += count
    need(not wrong, f"the message differs from the expected one: {', '.join(wrong)}")
    return messages


def _make_project(directory: Path, fleets: list[Path]) -> Path:
    """Make a project with one stack for each of the wrong *fleets*, and return where their files stand."""
    (directory / "Pulumi.yaml").write_text(PROJECT)
    (directory / "hook").mkdir()
    (directory / "hook/sitecustomize.py").write_text(HOOK)
    stacks = directory / "stacks"
    stacks.mkdir()
    for path in fleets:
        shutil.copy(path, stacks)
        secrets = encrypted_secrets(*re.findall(r"\bsecret: ([a-z][a-z0-9_]*)", path.read_text(errors="replace")))
        configure(stacks.parent, path.stem, path.name, "rack", secrets=secrets)
    return stacks
