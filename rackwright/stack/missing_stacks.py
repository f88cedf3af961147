"""Notices about stacks whose audits are expected, and that the project does not have."""

from collections.abc import Iterator

from rackwright import locations
from rackwright.schema.problem import hint
from rackwright.stack.stack import Stack


def missing_stacks(stack: Stack) -> Iterator[str]:
    """Yield a notice for each stack of `monitoring.audits` that is none of the project's: another may have it."""
    monitoring = stack.fleet.monitoring
    known = locations.stack_names(stack.project)
    for name in monitoring.audits if monitoring else ():
        if name not in known:
            help = hint(name, known, "Write the stack's name, or leave it out")
            yield (
                f"monitoring.audits.{name}: this project has no such stack, and AuditMissing fires until another one"
                f" delivers its audit. {help}"
            )
