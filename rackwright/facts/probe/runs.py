"""The training runs on this host and their progress, from the files that their processes write."""

from __future__ import annotations

import json
import math
import os
import re
from functools import partial
from typing import Any, Callable

from rackwright.facts.probe.isolate import become_owner, isolate_all
from rackwright.facts.probe.observe import (
    ReadError,
    attempt,
    list_untrusted,
    listing,
    open_untrusted,
    read,
    read_untrusted,
    unknown_value,
)

RUNS = "/etc/rackwright/runs"
TAIL_BYTES = 1 << 16
STEP = re.compile(r"step-(\d+)")
TRACKING_KEYS = ("url", "experiment", "run")
STATE = {"outcome": str, "config": str, "why": str, "attempt": int}
TEXT_LENGTH = 2000
"""Maximum length of a text from a run's account in the facts."""
EVERY_STEPS = 100
"""Interval of checkpoints without a declared one. Source: workloads/training/config.py, Saving."""
METRICS = ("step", "loss", "step_seconds", "time", "expert_load_max")


def runs(root: str) -> dict[str, Any]:
    return isolate_all(readers(root))


def readers(root: str) -> dict[str, Callable[[], Any]]:
    """Return a function for each run that reads it and takes the rights of its account: for isolated processes only."""
    names = [name for name in listing(root + RUNS) if os.path.exists(f"{root}{RUNS}/{name}/run.json")]
    return {name: partial(run, root, f"{RUNS}/{name}") for name in names}


def run(root: str, folder: str) -> dict[str, Any]:
    plan, config = load_json(f"{root}{folder}/run.json"), load_json(f"{root}{folder}/config.json")
    if os.path.isdir(root + plan["home"]):
        become_owner(root + plan["home"])
    state = load_account_file(root + plan["home"], "state.json") or {}
    return {
        **{name: field(state, name, expected) for name, expected in STATE.items()},
        "model": config["model"],
        "steps": config["steps"],
        "ranks": attempt(ranks, root + plan["out"]),
        "tracked": attempt(tracking_run, root + plan["out"]),
        "checkpoint": attempt(newest_checkpoint, root + plan["out"]),
        "has_checkpoints": attempt(has_checkpoints, root + plan["out"]),
        "every_steps": (config.get("saving") or {}).get("every_steps", EVERY_STEPS),
    }


def load_json(path: str) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(read(path))
    return content


def load_account_file(folder: str, name: str) -> dict[str, Any] | None:
    """Return the object in a JSON file of the run's account; None if there is no such file."""
    try:
        content = json.loads(read_untrusted(folder, name))
    except FileNotFoundError:
        return None
    if not isinstance(content, dict):
        raise ReadError(f"{folder}/{name} is no JSON object")
    return content


def field(state: dict[str, Any], name: str, expected: type) -> Any:
    """Return the value that the run's account has written under *name*; None if there is none."""
    value = state.get(name)
    if value is None:
        return None
    if not isinstance(value, expected):
        return unknown_value(f"{name} in state.json is no {expected.__name__}")
    return value[:TEXT_LENGTH] if isinstance(value, str) else value


def ranks(out: str) -> dict[str, Any]:
    """Return the latest metrics of each process, by the name of its file."""
    return {
        name: newest_metrics(read_untrusted(out, name, TAIL_BYTES, tail=True).decode(errors="replace").splitlines())
        for name in list_untrusted(out, pattern="metrics*.jsonl")
    }


def tracking_run(out: str) -> dict[str, Any] | None:
    """Return the identity of the run at an MLflow server; None if no server knows the run."""
    tracking = load_account_file(out, "tracking.json")
    return {key: str(tracking[key])[:TEXT_LENGTH] for key in TRACKING_KEYS} if tracking and "run" in tracking else None


def newest_metrics(lines: list[str]) -> dict[str, Any]:
    """Return the metrics in the last line of a step; empty if there is none yet.

    A run with differential privacy writes no loss. Lines with an event, such as an evaluation, are no steps.
    """
    for line in reversed(lines):
        if '"step":' in line and '"event":' not in line and line.startswith("{"):
            try:
                row = json.loads(line)
            except ValueError:
                continue  # the process is writing this line
            return {key: number(row[key]) for key in METRICS if isinstance(row.get(key), (int, float))}
    return {}


def number(value: float) -> float | str:
    """Return *value*, and one that JSON has no number for as a text: the loss of a run that diverges."""
    return value if math.isfinite(value) else str(value)


def has_checkpoints(out: str) -> bool:
    """Return whether the directory of checkpoints exists, which a run makes before its first step."""
    try:
        os.close(open_untrusted(out, "checkpoints", directory=True))
    except FileNotFoundError:
        return False
    return True


def newest_checkpoint(out: str) -> int | None:
    """Return the step of the newest checkpoint, which may be incomplete; None if there is none."""
    steps = [int(match[1]) for match in map(STEP.fullmatch, list_untrusted(out, "checkpoints")) if match]
    return max(steps, default=None)
