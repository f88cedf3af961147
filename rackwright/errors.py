"""The one root of everything rackwright says to a person who can mend it."""

import re
import shlex
from collections.abc import Iterable
from typing import ClassVar

_INVISIBLE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]"  # \t and \n stay
)
"""Characters that a terminal obeys (C0, DEL, C1), that reorder or break lines (Unicode), or that have no bytes."""


def visible(text: str) -> str:
    """Return *text* with each control character as it is written in Python: an escape sequence becomes ``\\x1b[2J``."""
    return _INVISIBLE.sub(lambda found: ascii(found[0])[1:-1], text)


def one_line(text: str) -> str:
    """Return *text* visible and without line breaks, for a value that stands within a line."""
    return visible(text).replace("\n", "\\n")


def indented(text: str) -> str:
    """Return *text* visible, its further lines indented: none of them looks like a message of its own."""
    return visible(text).replace("\n", "\n  ")


def command(text: str, *values: object) -> str:
    """Return the command *text* in backticks, with *values*, quoted for a shell, in the place of each ``{}``.

    A fix is pasted, and a name in it must not become a command.
    """
    return f"`{text.format(*(shlex.quote(str(value)) for value in values))}`"


class RackwrightError(Exception):
    """Something a person can mend, said without a traceback.

    The message answers, in this order: where, what was found, what would do, the way out, who says so.
    """

    exit_status: ClassVar[int] = 2
    """0 as wanted, 1 differs, 2 what was written is wrong or refused, 3 not reached or unknown, 4 a step failed."""

    def __init__(self, where: str, got: str, want: str, fix: str, source: str = "") -> None:
        self.where, self.got, self.want, self.fix, self.source = map(indented, (where, got, want, fix, source))
        text = f"{self.where}: {self.got}; {self.want}. {self.fix}."
        super().__init__(f"{text} [{self.source}]" if source else text)


class DeclarationError(RackwrightError):
    """A declared value that cannot work."""


class DeclarationErrors(RackwrightError):
    """All the errors of one declaration, in the order of their places."""

    def __init__(self, errors: Iterable[DeclarationError]) -> None:
        self.errors = tuple(errors)
        Exception.__init__(self, "\n".join(map(str, self.errors)))


class SetupError(RackwrightError):
    """This computer lacks something that rackwright needs."""


class Refused(RackwrightError):
    """A change that would lose something nobody gave up."""


class HostUnreachable(RackwrightError):
    """No answer from a host: what is on it is unknown."""

    exit_status = 3


class StepFailed(RackwrightError):
    """A step that ran on a host and did not end well."""

    exit_status = 4
