"""The reason why a process of the workloads failed, from the last lines of its output."""

import re
import signal
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

LINES, CHARACTERS = 400, 2000
"""Number of last lines of a process that are kept, and the characters of each."""
SIGNALS = 128
"""A shell, and so Horovod, adds the number of a signal to it for the status of a process."""
NAMES = {int(number): number.name for number in signal.Signals}
SENDER = re.compile(r"\[\d+(?:,\d+)?\]<\w+>:|\[rank\d+\]: ")
"""Beginning of the lines of one of several processes, by Horovod or by PyTorch."""
ERROR = re.compile(r"error(?:\[[\w-]+\])?: ")
PART = re.compile(r"  (expected|note|help): +(.*)")
TRACEBACK = "Traceback (most recent call last):"
LAUNCHERS = ("ChildFailedError", "Horovod detected")
"""Texts in the exceptions by which a launcher reports that one of its processes has failed."""
FIRST_FAILURE = "Root Cause (first observed failure):"
CHILD_STATUS = re.compile(r"Exit code: (-?\d+)|\s*exitcode *: (-?\d+) ")
"""Status of the process that failed first: by Horovod, and by torchrun after the line FIRST_FAILURE."""


@dataclass(frozen=True, slots=True)
class ProcessFailure:
    """The end of a process, with the parts of its own error, if it printed one."""

    status: int
    """Exit status; negative for a signal. If a launcher started several processes, that of the first one to fail."""
    problem: str
    """The error, exception or signal that ended it; else its last line, in quotes."""
    expected: str = ""
    note: str = ""
    help: str = ""
    crashed: bool = False
    """Whether an exception or a signal ended it, so that its status is no verdict."""


def parse_failure(lines: Sequence[str], status: int) -> ProcessFailure:
    """Return the failure of a process that ended with *status*.

    Args:
        lines: The last lines of its output, which may be any text.
    """
    status = _first_status(lines) or status if status == 1 else status
    number = -status if status < 0 else status - SIGNALS
    if number in NAMES:
        killed = ", as the kernel does if the memory is full" if number == signal.SIGKILL else ""
        return ProcessFailure(status, f"{NAMES[number]} ended it{killed}", crashed=True)
    by_sender: dict[str, list[str]] = {}
    for line in lines:
        sender = match[0] if (match := SENDER.match(line)) else ""
        by_sender.setdefault(sender, []).append(line.removeprefix(sender))
    for own in by_sender.values():
        if error := _last_error(own):
            first, *others = error
            parts = {match[1]: match[2] for line in others if (match := PART.match(line))}
            expected, note, help = (parts.get(name, "") for name in ("expected", "note", "help"))
            return ProcessFailure(status, ERROR.sub("", first, count=1), expected, note, help)
    exceptions = [each for own in by_sender.values() for each in _exceptions(own)]
    if exceptions:
        return ProcessFailure(status, exceptions[-1], crashed=True)
    last = next((line for line in reversed(lines) if line.strip()), "")
    return ProcessFailure(status, repr(last) if last else "it printed nothing")


def _first_status(lines: Sequence[str]) -> int:
    """Return the status of the process that failed first, as a launcher reports it; 0 if none does."""
    after = next((number for number, line in enumerate(lines) if line.strip() == FIRST_FAILURE), 0)
    found = (CHILD_STATUS.match(line) for line in lines[after:])
    return next((int(match[1] or match[2]) for match in found if match), 0)


def _last_error(lines: Sequence[str]) -> list[str]:
    """Return the lines of the last error that a command of the workloads printed; those of several processes once."""
    begins = [number for number, line in enumerate(lines) if ERROR.match(line)]
    if not begins:
        return []
    first, *others = lines[begins[-1] :]
    end = next((number for number, line in enumerate(others) if not line.startswith("  ")), len(others))
    return [first, *dict.fromkeys(others[:end])]


def _exceptions(lines: Sequence[str]) -> Iterator[str]:
    """Yield the first line of each exception after its traceback, without those of launchers."""
    inside = False
    for line in lines:
        if line == TRACEBACK:
            inside = True
        elif inside and line and not line.startswith(" "):
            inside = False
            if not any(text in line for text in LAUNCHERS):
                yield line
