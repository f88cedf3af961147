"""The Python environment of runs and servers: a declared one, or one that role `workloads` creates."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from rackwright.core.repository import RoleSource
from rackwright.kinds.role.promise import sha256
from rackwright.schema.fleet import Fleet
from rackwright.schema.host import Host
from rackwright.schema.run import Environment, Run
from rackwright.schema.server import Server
from rackwright.stack.stack import Stack

ROLE = "workloads"
SERVING = ("serving", "training")
"""Environments of the role for models of ONNX and GGUF, the best one first."""


def suitable(workload: Run | Server, runs_vllm: bool = False) -> tuple[str, ...]:
    """Return the environments of the role in which *workload* runs, the best one first.

    Args:
        runs_vllm: Whether the model of a server is one of vLLM, which its settings may not tell.
    """
    if isinstance(workload, Run):
        return ("training",)
    if not (workload.vllm or runs_vllm):
        return SERVING
    return ("vllm-cpu",) if workload.vllm and workload.vllm.cpu_cache_gib is not None else ("vllm",)


def keep(fleet: Fleet, names: Sequence[str] | None, roles: Mapping[str, RoleSource]) -> Fleet:
    """Return *fleet* with these environments of the role alone; None keeps all.

    Runs and servers that need another one are left out, and the role on hosts without any.
    """
    if names is None:
        return fleet
    hosts = {name: _keep_on(host, names, roles[ROLE]) for name, host in fleet.hosts.items()}
    runs = {name: run for name, run in fleet.runs.items() if _has(run, names)}
    servers = {name: server for name, server in fleet.servers.items() if _has(server, names)}
    return fleet.model_copy(update={"hosts": hosts, "runs": runs, "servers": servers})


def notices(fleet: Fleet, kept: Fleet) -> Iterator[str]:
    """Yield notices about what *kept* has no more of *fleet*."""
    if hosts := [name for name, host in kept.hosts.items() if host != fleet.hosts[name]]:
        names = {each for name in hosts for each in (kept.hosts[name].roles.get(ROLE) or {}).get("environments", ())}
        made = ", ".join(sorted(names)) or "none"
        yield f"{', '.join(hosts)}: of the environments of role {ROLE} the twin has {made}"
    lacking = [f"runs.{name}" for name in fleet.runs if name not in kept.runs]
    lacking += [f"servers.{name}" for name in fleet.servers if name not in kept.servers]
    if lacking:
        yield f"left out: {', '.join(lacking)}, which need an environment that the twin does not have"


def _has(workload: Run | Server, names: Sequence[str]) -> bool:
    return workload.environment is not None or not set(names).isdisjoint(suitable(workload))


def _keep_on(host: Host, names: Sequence[str], role: RoleSource) -> Host:
    if ROLE not in host.roles or host.os not in role.by_os:
        return host
    declared = role.variables(host.os, host.variables(ROLE))[f"{ROLE}_environments"]
    kept = [name for name in declared if name in names]
    if len(kept) == len(declared):
        return host
    others = {name: variables for name, variables in host.roles.items() if name != ROLE}
    own = {ROLE: {**(host.roles[ROLE] or {}), "environments": kept}} if kept else {}
    return host.model_copy(update={"roles": {**others, **own}})


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
