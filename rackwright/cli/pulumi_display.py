"""The display of a pulumi command: the work on each host, and the resources that are finished."""

import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import IO, Any

from rackwright import terminal
from rackwright.cli import activity
from rackwright.kinds.table import KINDS
from rackwright.provider.outcomes import INCOMPLETE, Outcome

DONE: Mapping[str, str] = {"create": "created", "update": "updated", "delete": "deleted", "import": "imported"}
"""The word for each operation that has succeeded; others are named as pulumi names them."""
FAILURES: Mapping[Outcome, str] = {"cancelled": "cancelled", "halted": "not begun", "unreachable": "not reached"}
"""The word for a change that was not made, by its outcome; another one has failed or was refused."""
UNCHANGED = frozenset({"same", "read", "refresh"})


class ResourceResults:
    """The resources whose work has ended, from further lines of pulumi's event log."""

    def __init__(self, outcomes: Mapping[str, Outcome] = MappingProxyType({})) -> None:
        """
        Args:
            outcomes: Outcomes of resources whose change pulumi calls failed, whatever the reason is.
        """
        self._outcomes = outcomes
        self._began: dict[str, int] = {}
        self.names: set[str] = set()
        """The resources that pulumi has finished, or has left as they are."""
        self.begun: set[str] = set()
        """The resources whose change has begun."""
        self.changed: set[str] = set()
        """The resources whose change has succeeded."""

    def lines(self, events: IO[str]) -> Iterator[str]:
        """Yield a line for each resource that was changed, or whose change has failed."""
        while True:
            place = events.tell()
            line = events.readline()
            if not line.endswith("\n"):  # pulumi has not written it to its end
                events.seek(place)
                return
            yield from self._of_event(json.loads(line))

    def _of_event(self, event: Mapping[str, Any]) -> Iterator[str]:
        for kind in ("resourcePreEvent", "resOutputsEvent", "resOpFailedEvent"):
            planned = (event.get(kind) or {}).get("metadata")
            if not planned or planned["type"] not in KINDS:
                continue
            urn, name, at = planned["urn"], planned["urn"].rpartition("::")[2], int(event.get("timestamp") or 0)
            is_change = planned["op"] not in UNCHANGED
            if kind == "resourcePreEvent":
                self._began.setdefault(urn, at)
                self.begun |= {name} if is_change else set()
                continue
            if is_change:
                self.changed |= {name} if kind == "resOutputsEvent" else set()
                failure = FAILURES.get(self._outcomes.get(name, "failed"), "failed")
                result = failure if kind == "resOpFailedEvent" else DONE.get(planned["op"], planned["op"])
                yield f"{name}: {result}, {at - self._began.pop(urn, at)} s"
            if planned["op"] != "refresh":
                self.names.add(name)


class Failures:
    """The failures of resources, from further lines of the records of a provider."""

    def __init__(self) -> None:
        self.outcomes: dict[str, Outcome] = {}
        """Outcome of each resource whose change was not made."""

    def lines(self, records: IO[str]) -> Iterator[str]:
        """Yield a line with the reason for each resource that has failed or was refused."""
        while True:
            place = records.tell()
            line = records.readline()
            if not line.endswith("\n"):  # the provider has not written it to its end
                records.seek(place)
                return
            record = json.loads(line)
            if (outcome := record.get("outcome")) in INCOMPLETE:
                self.outcomes[record["id"]] = outcome
            if record.get("reason"):
                yield f"{record['id']}: {FAILURES.get(outcome, outcome)}: {record['reason']}"


@contextmanager
def show(records: Path, heading: Callable[[float], str]) -> Iterator[Callable[[], None]]:
    """Yield a function to call again and again, while the work of the provider with *records* is shown.

    Args:
        heading: Returns the line above the work, from the seconds since the start.
    """
    working, began = activity.Activity(), time.monotonic()
    records.touch(0o600)
    with records.open() as lines, activity.show(working, lambda: heading(time.monotonic() - began)):
        yield lambda: working.read(lines)


def show_lines(lines: Iterator[str]) -> None:
    """Print *lines* above the work that goes on."""
    for line in lines:
        terminal.show(line, flush=True)
