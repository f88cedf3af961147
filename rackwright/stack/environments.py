"""What runs and servers import: the environment that role `workloads` makes on their hosts, where it does."""

from collections.abc import Iterable

from rackwright.kinds.role.promise import sha256
from rackwright.schema.run import Environment
from rackwright.stack.stack import Stack

ROLE = "workloads"


def place(stack: Stack, said: Environment | None, members: Iterable[str], made: Iterable[str], without: str) -> str:
    """Return where the environment is on all *members*: as *said*, or as the role makes it, else *without* the role.

    Args:
        made: Which of the role's environments do; the first that it makes on each of them.
    """
    if said is not None:
        return said.path
    for name in made:
        found = {_place(stack, member, name) for member in members}
        if len(found) == 1 and (path := found.pop()) is not None:
            return path
    return without


def _place(stack: Stack, member: str, name: str) -> str | None:
    host = stack.fleet.hosts[member]
    if ROLE not in host.roles:
        return None
    variables = stack.repository.roles[ROLE].variables(host.os, host.variables(ROLE))
    if name not in variables["workloads_environments"]:
        return None
    return stack.repository.render("workloads/environment.j2", item=name, sha256=sha256, **variables)
