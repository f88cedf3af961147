"""What the provider met, for the command that started pulumi: pulumi itself has one exit status for all of it."""

import json
import os
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

Outcome = Literal["failed", "refused", "by_hand", "unknown", "unreachable", "done"]
VARIABLE = "RACKWRIGHT_OUTCOMES"
"""Names the file that is appended to, one JSON line each; nothing is written where it is not set."""
HEADINGS: Mapping[Outcome, str] = {
    "failed": "failed",
    "refused": "refused",
    "by_hand": "left for a person",
    "unknown": "unknown in part",
    "unreachable": "not reached, so unknown",
}


def note(outcome: Outcome, id: str) -> None:
    """Say that the resource *id* met *outcome*."""
    if path := os.environ.get(VARIABLE):
        line = json.dumps({"outcome": outcome, "id": id}) + "\n"
        with Path(path).open("a") as file:  # one write below the size of a pipe's buffer: threads do not mix
            file.write(line)


def read(path: Path) -> dict[Outcome, set[str]]:
    """Return the resources that met each outcome; what was noted of one before it was done is no longer true."""
    found: dict[Outcome, set[str]] = defaultdict(set)
    for line in path.read_text().splitlines() if path.exists() else ():
        told = json.loads(line)
        if told["outcome"] == "done":
            for resources in found.values():
                resources.discard(told["id"])
        found[told["outcome"]].add(told["id"])
    return dict(found)
