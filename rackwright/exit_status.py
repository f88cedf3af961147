"""The one map from the ways in which a command ends to its exit status."""

from collections.abc import Iterable, Mapping
from enum import IntEnum


class ExitStatus(IntEnum):
    """Exit status of a command. All but the first four values never stand for a result of a comparison."""

    AS_DECLARED = 0
    DIFFERS = 1
    REFUSED = 2
    UNKNOWN = 3
    FAILED = 4
    INTERNAL = 70
    OUTPUT_FAILED = 74
    HUNG_UP = 129
    INTERRUPTED = 130
    OUTPUT_CLOSED = 141
    TERMINATED = 143


MEANINGS: Mapping[ExitStatus, str] = {
    ExitStatus.AS_DECLARED: "The result is as declared, or the command did what it should.",
    ExitStatus.DIFFERS: "A property differs, or only a person can make it as declared.",
    ExitStatus.REFUSED: "The declaration or the command is wrong, or rackwright refused it. Nothing was done.",
    ExitStatus.UNKNOWN: "A host was not reached, or a property is unknown, and no property is known to differ.",
    ExitStatus.FAILED: "A step failed, or a program that rackwright runs was killed.",
    ExitStatus.INTERNAL: "rackwright itself failed, and printed a traceback. The result is unknown.",
    ExitStatus.OUTPUT_FAILED: "The output could not be written, for example to a full disk. The result is unknown.",
    ExitStatus.HUNG_UP: "The terminal was closed. Running the command again is safe.",
    ExitStatus.INTERRUPTED: "Ctrl-C ended the command. Running it again is safe.",
    ExitStatus.OUTPUT_CLOSED: "The reader of the output ended first, as `head` does. The result is unknown.",
    ExitStatus.TERMINATED: "SIGTERM ended the command. Running it again is safe.",
}
GRAVEST_FIRST = (ExitStatus.FAILED, ExitStatus.REFUSED, ExitStatus.DIFFERS, ExitStatus.UNKNOWN)


def gravest(statuses: Iterable[int]) -> ExitStatus:
    """Return the status of a command whose parts ended with *statuses*; AS_DECLARED without a part of another status.

    A host that was not reached counts least: it decides only where all that was reached is as declared.
    """
    ended = {*statuses}
    return next((status for status in GRAVEST_FIRST if status in ended), ExitStatus.AS_DECLARED)
