"""What all_reduce_perf of nccl-tests prints, and what NCCL tells meanwhile of the ways that it takes.

NCCL goes on over a slower way where the better one fails, and says so only in its log: what it used is read from there,
with ``NCCL_DEBUG=INFO``, and never concluded from a figure.
"""

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from rackwright.qualify.item import Unusable

Transport = Literal["NVLink", "PCIe", "shared memory", "RDMA", "TCP"]
DEBUG: Mapping[str, str] = {"NCCL_DEBUG": "INFO", "NCCL_DEBUG_SUBSYS": "INIT,GRAPH,NET,P2P,SHM"}
"""What makes NCCL tell."""
OVER_THE_NETWORK: Mapping[str, str] = {"NCCL_P2P_DISABLE": "1", "NCCL_SHM_DISABLE": "1"}
"""What makes GPUs of one host talk through its network adapters, as they will to those of other hosts."""
CHANNEL = re.compile(r"NCCL INFO Channel \d+(?:/\d+)? : \d+\[\w+\] -> \d+\[\w+\](?: \[send\])? via (\S+)")
PATTERN = re.compile(r"NCCL INFO Pattern \d+, .*type (\w+)/\w+")
NVLINK = {"LOC", "NVL", "NVB", "C2C"}
"""Types of ways between GPUs that stay on NVLink; others lead over PCIe. Source: NCCL 2.30, graph/topo.cc."""
JOINED = re.compile(r"^\s*GPU\d+\s.*\bNV\d+\b", re.MULTILINE)
"""A line of ``nvidia-smi topo -m`` for a GPU with NVLinks to another, and how many."""
AVERAGE = re.compile(r"^# Avg bus bandwidth\s*: *([\d.]+)", re.MULTILINE)
WRONG = re.compile(r"^# Out of bounds values\s*: *(\d+)", re.MULTILINE)


@dataclass(frozen=True)
class AllReduce:
    """One run."""

    gb_per_s: float
    """Bus bandwidth, in 10^9 bytes: comparable with the links', however many GPUs take part."""
    transports: tuple[str, ...]
    """Every way that was used, the most used first: a Transport, or a name of NCCL's that is none we know."""


def argv(program: str, gpus: int, size: str) -> tuple[str, ...]:
    """Return the command for one size, in one process: ``8G`` to every one of so many *gpus*, checked."""
    return (program, "-b", size, "-e", size, "-g", str(gpus), "-c", "1")


def parse(text: str) -> AllReduce:
    """Return what was measured.

    Raises:
        Unusable: it is not what the program prints, results were wrong, or NCCL did not tell which ways it took.
    """
    average, wrong = AVERAGE.search(text), WRONG.search(text)
    if not average or not wrong:
        said = [line for line in text.splitlines() if line.strip()][-1:] or ["nothing"]
        raise Unusable(f"all_reduce_perf came to no result, and last said: {said[0]}")
    if int(wrong[1]):
        raise Unusable(f"all_reduce_perf got {wrong[1]} wrong values")
    transports = tuple(name for name, _ in Counter(_ways(text)).most_common())
    if not transports:
        raise Unusable("NCCL did not tell which ways it took: it says so with NCCL_DEBUG=INFO")
    return AllReduce(float(average[1]), transports)


def fallen_back(found: AllReduce, wanted: str) -> str:
    """Return how *found* went otherwise than over *wanted*, naming both; empty where it did not."""
    others = [name for name in found.transports if name != wanted]
    return f"went over {' and '.join(others)}, not over {wanted} alone" if others else ""


def joined_by_nvlink(topology: str) -> bool:
    """Return whether ``nvidia-smi topo -m`` shows NVLinks between GPUs."""
    return bool(JOINED.search(topology))


def _ways(text: str) -> list[str]:
    ways, types = CHANNEL.findall(text), PATTERN.findall(text)
    if not types and any(way.startswith("P2P") for way in ways):
        raise Unusable("NCCL did not tell over which links GPUs are peers: it says so with NCCL_DEBUG_SUBSYS=GRAPH")
    over_pcie = any(type not in NVLINK for type in types)
    return [_transport(way, over_pcie) for way in ways]


def _transport(way: str, over_pcie: bool) -> str:
    sort, _, more = way.partition("/")
    if sort == "P2P":
        return "PCIe" if over_pcie else "NVLink"
    if sort == "SHM":
        return "shared memory"
    network = more.partition("/")[0]
    if sort == "NET" and network.startswith("IB"):
        return "RDMA"
    return "TCP" if (sort, network) == ("NET", "Socket") else way
