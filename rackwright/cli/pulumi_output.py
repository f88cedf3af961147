"""Pulumi's own output in a log: a line for each step of a resource, and none that only counts on."""

import contextlib
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO

from rackwright import terminal

DOTS = re.compile(r"@ \w+[. ]*")
"""A line that says only that pulumi still works."""
WORK = re.compile(r" *\S+ +\S+ (?P<name>\S+) \w+ing(?: \(\d+s\))? ?(?P<text>.*)")
"""A line about running work on a resource: operation, type, name, verb, seconds, and what it does."""
STEP = re.compile(r"step \d+/\d+")
END_SECONDS = 5.0
"""Longest wait for the last lines of a pulumi that has ended, whose plugins may keep its output open."""


class Repetitions:
    """The lines of running work that a log has already."""

    def __init__(self) -> None:
        self._seen: set[tuple[str, str]] = set()

    def is_repeated(self, line: str) -> bool:
        """Return whether *line* says nothing new: pulumi prints a line for each part of a step, and for each second."""
        if DOTS.fullmatch(line):
            return True
        if not (work := WORK.fullmatch(line)):
            return False
        step = STEP.match(work["text"])
        key = work["name"], step[0] if step else work["text"]
        is_known = key in self._seen
        self._seen.add(key)
        return is_known


@contextmanager
def passed_on(output: IO[bytes], stdout: IO[str] | None) -> Iterator[None]:
    """Write the lines of *output* without repetitions while the block runs, which waits for the end of its program.

    Args:
        stdout: The stream for the lines; None for rackwright's own stdout.
    """
    reader = threading.Thread(target=_pass_on, args=(output, stdout), daemon=True)
    reader.start()
    try:
        yield
    finally:
        reader.join(END_SECONDS)


def _pass_on(output: IO[bytes], stdout: IO[str] | None) -> None:
    repetitions = Repetitions()
    for raw in output:  # to its end, whatever happens to the lines: pulumi would block before the end of a change
        line = raw.decode(errors="replace").rstrip("\r\n")
        if not repetitions.is_repeated(line.rstrip()):
            with contextlib.suppress(OSError, ValueError):
                terminal.write_line(line, stdout)
