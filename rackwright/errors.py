"""The exceptions of rackwright: each carries diagnostics, and its class gives the exit status."""

import shlex
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from workloads.errors import CI_COMMAND, Diagnostic, UserError, one_line, render, visible

__all__ = [
    "CI_COMMAND",
    "ChangeRefused",
    "DeclarationError",
    "Diagnostic",
    "EndpointUnreachable",
    "HostUnreachable",
    "SetupError",
    "StepFailed",
    "Unreachable",
    "UserError",
    "collect",
    "command",
    "one_line",
    "render",
    "visible",
]


def command(text: str, *values: object) -> str:
    """Return the command *text* in backticks, with *values*, quoted for a shell, in the place of each ``{}``.

    Users paste the remedy of an error, and a name in it must not become a command.
    """
    return f"`{text.format(*(shlex.quote(str(value)) for value in values))}`"


def quantity(number: int, noun: str) -> str:
    """Return *number* with *noun* in its number: ``1 host``, ``2 hosts``."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def listing(names: Iterable[str], most: int = 5) -> str:
    """Return *names*, each once, as ``a, b, c``; after *most* of them comes the number of the others."""
    each = [*dict.fromkeys(names)]
    others = len(each) - most
    return ", ".join(each) if others <= 0 else f"{', '.join(each[:most])} and {others} more"


class DeclarationError(UserError):
    """Declared values that cannot work, in the order of their places."""


@contextmanager
def collect(errors: list[Diagnostic]) -> Iterator[None]:
    """Add the diagnostics of a DeclarationError in the block to *errors*; the caller raises all of them at once."""
    try:
        yield
    except DeclarationError as error:
        errors += error.diagnostics


class SetupError(UserError):
    """Something that rackwright needs is missing on this computer."""


class ChangeRefused(UserError):
    """A change that is refused, for example because it would lose data without consent."""


class Unreachable(UserError):
    """No answer from a host or an endpoint: its state is unknown."""

    exit_status = 3


class HostUnreachable(Unreachable):
    """No answer from a host."""


class EndpointUnreachable(Unreachable):
    """No usable answer from an endpoint."""


class StepFailed(UserError):
    """A step on a host that failed."""

    exit_status = 4
