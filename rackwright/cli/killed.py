"""The error for a tool that a signal killed, such as a pulumi for which the memory was too small."""

import shlex
import signal
from collections.abc import Sequence

from rackwright.errors import Diagnostic, StepFailed


def killed_error(argv: Sequence[str], number: int, stack: str) -> StepFailed:
    """Return the error for a command that the signal *number* killed."""
    try:
        name = signal.Signals(number).name
    except ValueError:
        name = f"signal {number}"
    return _error(f"`{shlex.join(argv)}` was killed by {name}", stack)


def killed_provider(stack: str) -> StepFailed:
    """Return the error for a provider that was killed below a pulumi that went on."""
    return _error("rackwright's provider was killed while pulumi ran, which pulumi calls a bug in the provider", stack)


def _error(problem: str, stack: str) -> StepFailed:
    note = "the next run observes the hosts first, and leaves resources that are as declared"
    return StepFailed(
        Diagnostic(f"stack {stack}", problem, help="Run the command again", note=note, id="pulumi-killed")
    )
