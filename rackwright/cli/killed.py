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
    problem = f"`{shlex.join(argv)}` was killed by {name}"
    note = "the next run observes the hosts first, and leaves resources that are as declared"
    return StepFailed(
        Diagnostic(f"stack {stack}", problem, help="Run the command again", note=note, id="pulumi-killed")
    )
