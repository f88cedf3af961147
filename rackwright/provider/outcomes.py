"""The outcomes of resources for the command that started pulumi, because pulumi has one exit status for all of them."""

import json
import os
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

Outcome = Literal["failed", "refused", "by_hand", "unknown", "unreachable", "done"]
VARIABLE = "RACKWRIGHT_OUTCOMES"
"""The environment variable with the file's path. The provider appends one JSON line for each outcome."""
HEADINGS: Mapping[Outcome, str] = {
    "failed": "failed",
    "refused": "refused",
    "by_hand": "manual work needed",
    "unknown": "unknown in part",
    "unreachable": "not reached, so unknown",
}


def note(outcome: Outcome, id: str) -> None:
    """Record *outcome* of the resource *id*."""
    if path := os.environ.get(VARIABLE):
        line = json.dumps({"outcome": outcome, "id": id}) + "\n"
        with Path(path).open("a") as file:  # one write below the size of a pipe's buffer: threads do not mix
            file.write(line)


def read(path: Path) -> dict[Outcome, set[str]]:
    """Return the resources with each outcome; ``done`` replaces the earlier outcomes of a resource."""
    outcomes: dict[Outcome, set[str]] = defaultdict(set)
    for line in path.read_text().splitlines() if path.exists() else ():
        record = json.loads(line)
        if record["outcome"] == "done":
            for resources in outcomes.values():
                resources.discard(record["id"])
        outcomes[record["outcome"]].add(record["id"])
    return dict(outcomes)
