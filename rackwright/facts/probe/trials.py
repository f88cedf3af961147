"""Transient units of rackwright: those that undo a change on trial, and those in which steps run."""

from __future__ import annotations

import json
import os
import re
from typing import Any

from rackwright.facts.probe.observe import ReadError, attempt, listing, read, run_tool

FOLDER = "/var/lib/rackwright/undo"
PREFIX = "undo-rackwright-"
STATES = (("undoing", "undoing"), ("undo.sh", "waiting"), ("confirmed", "confirmed"))
"""Files of a change, and what they say about it; the first that is there decides."""
ETC, RUN = "/etc/systemd/system", "/run/systemd/system"
STEPS = "/run/rackwright/units"
"""Folder with a record for each transient unit that rackwright has started since the last start of the host."""
COMMAND = re.compile(r"argv\[\]=(.*) ; ignore_errors=(?:yes|no) ;", re.DOTALL)
"""The arguments in systemd's answer about a command."""
NAME = re.compile(r"[A-Za-z0-9_.:\\-]{1,250}")


def trials(root: str) -> dict[str, Any]:
    """Return the changes for which this host has earlier files, by name."""
    names = [name for name in listing(root + FOLDER) if NAME.fullmatch(name)]
    return {name: attempt(trial, root, name) for name in names}


def trial(root: str, name: str) -> dict[str, Any]:
    """Return state, deadline and units of a change; None for a text that is not there."""
    present = {*listing(f"{root}{FOLDER}/{name}")}
    record = json.loads(read(f"{root}{FOLDER}/{name}/trial.json")) if "trial.json" in present else {}
    if not isinstance(record, dict):
        raise ReadError(f"{FOLDER}/{name}/trial.json is no record of a change")
    unit = f"{PREFIX}{name}"
    return {
        "state": next((state for file, state in STATES if file in present), "left"),
        "until": record.get("until"),
        "boot": record.get("boot"),
        "service": text(f"{root}{ETC}/{unit}.service"),
        "timer": text(f"{root}{ETC}/{unit}.timer"),
        "deadline": text(f"{root}{RUN}/{unit}.timer.d/deadline.conf"),
    }


def text(path: str) -> str | None:
    """Return the text of a file as it is; None if there is none."""
    try:
        with open(path, "rb") as file:
            return file.read(65536).decode("utf-8", "replace")
    except FileNotFoundError:
        return None


def step_units(root: str) -> dict[str, Any]:
    """Return for each recorded transient unit whether systemd runs the recorded command in it."""
    names = [name for name in listing(root + STEPS, "*.json") if NAME.fullmatch(name)]
    return {f"{name[:-5]}.service": attempt(is_recorded, root, name) for name in names}


def is_recorded(root: str, name: str) -> bool:
    argv = json.loads(read(f"{root}{STEPS}/{name}"))["argv"]
    found = COMMAND.search(run_tool("systemctl", "show", "--property=ExecStart", "--value", f"{name[:-5]}.service"))
    return found is not None and without_folder(found[1]) == without_folder(" ".join(argv))


def without_folder(command: str) -> str:
    """Return *command* with the bare name of its program, which some versions of systemd resolve to a path."""
    program, space, rest = command.partition(" ")
    return os.path.basename(program) + space + rest
