"""The one root of everything rackwright says to a person who can mend it."""

import shlex
from collections.abc import Iterable
from typing import ClassVar


def command(*argv: str) -> str:
    """Return *argv* in backticks, quoted for a shell: a fix is pasted, and a name in it must not become a command."""
    return f"`{shlex.join(argv)}`"


class RackwrightError(Exception):
    """Something a person can mend, said without a traceback.

    The message answers, in this order: where, what was found, what would do, the way out, who says so.
    """

    exit_status: ClassVar[int] = 2
    """0 as wanted, 1 differs, 2 what was written is wrong or refused, 3 not reached or unknown, 4 a step failed."""

    def __init__(self, where: str, got: str, want: str, fix: str, source: str = "") -> None:
        self.where, self.got, self.want, self.fix, self.source = where, got, want, fix, source
        text = f"{where}: {got}; {want}. {fix}."
        super().__init__(f"{text} [{source}]" if source else text)


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
