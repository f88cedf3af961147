"""The work on each host, as lines for a terminal: one for each host on which something goes on."""

import json
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO

from rackwright import terminal
from rackwright.errors import one_line
from rackwright.progress import Progress

WAITING = "waiting"
"""Beginning of texts about work that waits for other work of its host."""


@dataclass
class _Work:
    text: str
    since: float
    """Start of the work, by the clock of the monotonic time."""


class Activity:
    """The work on hosts, noted by any thread."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._guard = threading.Lock()
        self._hosts: dict[str, dict[str, _Work]] = {}

    def note(self, host: str, text: str, work: str = "facts") -> None:
        """Note that *work* on *host* is at *text*, such as ``step 2/11: make the array``; empty at its end."""
        with self._guard:
            running = self._hosts.setdefault(host, {})
            before = running.pop(work, None)
            if text:
                running[work] = _Work(text, before.since if before else self._clock())
            elif not running:
                del self._hosts[host]

    def read(self, records: IO[str]) -> None:
        """Note the further lines of *records*, the file of a provider; a line without its end is left for later."""
        while True:
            place = records.tell()
            line = records.readline()
            if not line.endswith("\n"):
                records.seek(place)
                return
            if (record := json.loads(line)).get("activity"):
                self.note(record["activity"], record["text"], record["work"])

    def lines(self, width: int, rows: int) -> list[str]:
        """Return a line for each host with work: its name, the step, and the seconds; none is wider than *width*.

        Args:
            rows: The most lines; the last one counts the hosts that have none.
        """
        with self._guard:
            now, working = self._clock(), [(host, _foremost(works.values())) for host, works in self._hosts.items()]
        names = max((len(host) for host, _ in working), default=0)
        shown = working if len(working) <= rows else working[: max(rows - 1, 0)]
        lines = [_fit(f"{host:<{names}}  {work.text}", f"{now - work.since:.0f} s", width) for host, work in shown]
        if len(shown) < len(working):
            lines.append(_fit(f"and {len(working) - len(shown)} more hosts", "", width))
        return lines


def _foremost(works: Iterable[_Work]) -> _Work:
    """Return the newest of *works* that does not wait, or else the newest."""
    newest_last = [*works]
    return next((each for each in reversed(newest_last) if not each.text.startswith(WAITING)), newest_last[-1])


def _fit(text: str, end: str, width: int) -> str:
    """Return *text* and *end* in a line of *width* columns; *text* is cut, and *end* is whole."""
    text, room = one_line(text), max(width - len(end) - 2, 8)
    cut = text if len(text) <= room else f"{text[: room - 1]}…"
    return f"{cut}  {end}".rstrip()


@contextmanager
def show_work() -> Iterator[Progress]:
    """Yield a function that takes the line about long work; it is shown with its seconds while the block runs."""
    began, text = time.monotonic(), ""

    def lines(width: int, rows: int) -> list[str]:
        return [_fit(text, f"{time.monotonic() - began:.0f} s", width)] if text else []

    def take(line: str) -> None:
        nonlocal text
        text = line

    with terminal.live(lines):
        yield take


@contextmanager
def show(activity: Activity, heading: Callable[[], str] = str) -> Iterator[None]:
    """Show the lines of *activity* on a terminal below other output while the block runs.

    Args:
        heading: Returns a line above them; none while that is empty.
    """

    def lines(width: int, rows: int) -> list[str]:
        head = heading()
        heads = [_fit(head, "", width)] if head else []
        return [*heads, *activity.lines(width, rows - len(heads))]

    with terminal.live(lines):
        yield
