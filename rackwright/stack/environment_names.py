"""The environments of role `workloads` in which runs and servers can be, and those that a twin has."""

from collections.abc import Iterator, Mapping, Sequence

from rackwright.core.repository import RoleSource
from rackwright.schema.fleet import Fleet
from rackwright.schema.host import Host
from rackwright.schema.run import Run
from rackwright.schema.server import Server
from rackwright.stack.settings import WORKLOADS_ROLE as ROLE

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


def choices(roles: Mapping[str, RoleSource]) -> Sequence[str]:
    """Return the names of all environments that the role can make."""
    names: Sequence[str] = roles[ROLE].options[f"{ROLE}_environments"]["choices"]
    return names


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
