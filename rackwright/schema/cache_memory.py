"""Memory of hosts for the caches of their servers: of vLLM on processors, and beyond the GPUs."""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from rackwright.schema.host import Host
from rackwright.schema.problem import Problem
from rackwright.schema.units import format_size

if TYPE_CHECKING:
    from rackwright.schema.server import Server

GIB = 1 << 30
FIELDS = ("cpu_cache_gib", "kv_offload_gib")
"""Settings of vLLM that take memory of each host, in GiB."""


def problems(servers: "Mapping[str, Server]", hosts: Mapping[str, Host]) -> Iterator[Problem]:
    """Yield a problem for each cache with which those of a host take all of its declared memory."""
    taken: dict[str, int] = {}
    for name, server in servers.items():
        for field in FIELDS if server.vllm and server.on == "hosts" else ():
            gib = getattr(server.vllm, field) or 0
            for member in server.members(hosts) if gib else ():
                taken[member] = taken.get(member, 0) + gib
                memory = hosts[member].minimum.memory if member in hosts else None
                if memory is not None and taken[member] * GIB >= memory:
                    problem = f"got {gib}, with which caches of {member} take {taken[member]} GiB"
                    expected = f"its profile has {format_size(memory)}, for all programs together"
                    yield Problem(problem, expected, "Declare smaller caches", (name, "vllm", field))
                    break
