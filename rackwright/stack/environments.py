"""The Python environment of runs and servers: a declared one, or one that role `workloads` creates."""

from collections.abc import Iterable
from typing import Any

from rackwright.kinds.role.promise import sha256
from rackwright.schema.run import Environment
from rackwright.stack.settings import WORKLOADS_ROLE as ROLE
from rackwright.stack.stack import Stack


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
    if ROLE not in stack.fleet.hosts[member].roles:
        return ()
    return tuple(role_variables(stack, member)["workloads_environments"])


def role_variables(stack: Stack, member: str) -> dict[str, Any]:
    """Return all variables of the role, which the host *member* has."""
    host = stack.fleet.hosts[member]
    return stack.repository.roles[ROLE].variables(host.os, host.variables(ROLE))


def _host_path(stack: Stack, member: str, name: str) -> str | None:
    if name not in made_environments(stack, member):
        return None
    variables = role_variables(stack, member)
    return stack.repository.render("workloads/environment.j2", item=name, sha256=sha256, **variables)
