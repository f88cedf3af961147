"""The option --allow of the audit: lines of the fleet that admit what is on the hosts today."""

import getpass
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from rackwright.cli import project
from rackwright.errors import quantity

if TYPE_CHECKING:
    from rackwright.audit.report import UndeclaredThing


def write(stack: str, hosts: Iterable[str], undeclared: Iterable["UndeclaredThing"], reason: str) -> None:
    """Add a line to the fleet of *stack* for each undeclared thing without one, with the operator as its owner."""
    from rackwright.audit.undeclared.allow import new_lines
    from rackwright.fleet.edit_allow import add_lines

    found = [(item.host, item.rule, item.thing) for item in undeclared if item.allowed is None and not item.is_unknown]
    if not found:
        project.notify("nothing is undeclared: no line was written")
        return
    lines = new_lines(found, set(hosts), reason, getpass.getuser(), datetime.now(UTC))
    path = project.rewrite(stack, lambda path: add_lines(path, lines))
    project.notify(f"{path.name}: {quantity(len(lines), 'line')} under allow, until {lines[0].expires}")
