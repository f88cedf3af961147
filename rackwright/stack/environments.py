"""The Python environment of runs and servers: a declared one, or one that role `workloads` creates."""

from collections.abc import Iterable

from rackwright.kinds.role.promise import sha256
from rackwright.schema.run import Environment
from rackwright.stack.stack import Stack

ROLE = "workloads"


def environment_path(
    stack: Stack, declared: Environment | None, members: Iterable[str], names: Iterable[str], default: str
) -> str:
    """Return the path of the environment on all *members*: the *declared* one, one of the role's, or *default*.

    Args:
        names: Suitable environments of the role; the first one that the role creates on all members is taken.
    """
    if declared is not None:
        return declared.path
    for name in names:
        paths = {_host_path(stack, member, name) for member in members}
        if len(paths) == 1 and (path := paths.pop()) is not None:
            return path
    return default


def made_environments(stack: Stack, member: str) -> tuple[str, ...]:
    """Return the names of the environments that the role creates on the host *member*."""
    host = stack.fleet.hosts[member]
    if ROLE not in host.roles:
        return ()
    variables = stack.repository.roles[ROLE].variables(host.os, host.variables(ROLE))
    return tuple(variables["workloads_environments"])


def _host_path(stack: Stack, member: str, name: str) -> str | None:
    host = stack.fleet.hosts[member]
    if name not in made_environments(stack, member):
        return None
    variables = stack.repository.roles[ROLE].variables(host.os, host.variables(ROLE))
    return stack.repository.render("workloads/environment.j2", item=name, sha256=sha256, **variables)
