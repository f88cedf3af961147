"""Trainings that were put on this host: how far each is, from the files that its processes write."""

from __future__ import annotations

import json
import os
import re
from functools import partial
from typing import Any

from rackwright.facts.probe.apart import all_apart, become_owner
from rackwright.facts.probe.observe import (
    ReadError,
    attempt,
    list_untrusted,
    listing,
    read,
    read_untrusted,
    unknown,
)

RUNS = "/etc/rackwright/runs"
TAIL_BYTES = 1 << 16
STEP = re.compile(r"step-(\d+)")
TRACKED = ("url", "experiment", "run")
STATE = {"outcome": str, "config": str, "why": str, "attempt": int}
TEXT_LENGTH = 2000
"""The longest text of a run's account that the facts keep."""
TOLD = ("step", "loss", "step_seconds", "time")


def runs(root: str) -> dict[str, Any]:
    names = [name for name in listing(root + RUNS) if os.path.exists(f"{root}{RUNS}/{name}/run.json")]
    looks = {name: partial(run, root, f"{RUNS}/{name}") for name in names}
    return all_apart(looks) if looks else {}


def run(root: str, folder: str) -> dict[str, Any]:
    plan, config = loaded(f"{root}{folder}/run.json"), loaded(f"{root}{folder}/config.json")
    if os.path.isdir(root + plan["home"]):
        become_owner(root + plan["home"])
    state = written(root + plan["home"], "state.json") or {}
    return {
        **{name: field(state, name, sort) for name, sort in STATE.items()},
        "model": config["model"],
        "steps": config["steps"],
        "ranks": attempt(ranks, root + plan["out"]),
        "tracked": attempt(tracked, root + plan["out"]),
        "checkpoint": attempt(checkpoint, root + plan["out"]),
    }


def loaded(path: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(read(path))
    return found


def written(folder: str, name: str) -> dict[str, Any] | None:
    """Return the object in a JSON file of the run's account; None where there is no such file."""
    try:
        found = json.loads(read_untrusted(folder, name))
    except FileNotFoundError:
        return None
    if not isinstance(found, dict):
        raise ReadError(f"{folder}/{name} is no JSON object")
    return found


def field(state: dict[str, Any], name: str, sort: type) -> Any:
    """Return what the run's account has written under *name*; None where it has written nothing."""
    value = state.get(name)
    if value is None:
        return None
    if not isinstance(value, sort):
        return unknown(f"{name} in state.json is no {sort.__name__}")
    return value[:TEXT_LENGTH] if isinstance(value, str) else value


def ranks(out: str) -> dict[str, Any]:
    """Return the newest figures of each process, by the name of its file."""
    return {
        name: newest(read_untrusted(out, name, TAIL_BYTES, tail=True).decode(errors="replace").splitlines())
        for name in list_untrusted(out, pattern="metrics*.jsonl")
    }


def tracked(out: str) -> dict[str, Any] | None:
    """Return as what the run is known at an MLflow server; None where it is not."""
    told = written(out, "tracking.json")
    return {key: str(told[key])[:TEXT_LENGTH] for key in TRACKED} if told and "run" in told else None


def newest(lines: list[str]) -> dict[str, Any]:
    """Return the last line about a step that says its loss; empty where there is none yet."""
    for line in reversed(lines):
        if '"loss":' in line and line.startswith("{"):
            try:
                told = json.loads(line)
            except ValueError:
                continue  # it is being written
            return {key: told[key] for key in TOLD if isinstance(told.get(key), (int, float))}
    return {}


def checkpoint(out: str) -> int | None:
    """Return the step of the newest checkpoint; whether it is whole, its reader finds out."""
    steps = [int(match[1]) for match in map(STEP.fullmatch, list_untrusted(out, "checkpoints")) if match]
    return max(steps, default=None)
