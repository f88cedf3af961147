"""The command line and the output of all_reduce_perf (nccl-tests), and the transports in NCCL's log.

NCCL falls back to a slower transport if a better one fails, and reports that only in its log. The transports are read
from the log with ``NCCL_DEBUG=INFO``, and never inferred from a figure.
"""

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from rackwright.qualify.item import MeasurementFailed

Transport = Literal["NVLink", "PCIe", "shared memory", "RDMA", "TCP"]
DEBUG: Mapping[str, str] = {"NCCL_DEBUG": "INFO", "NCCL_DEBUG_SUBSYS": "INIT,GRAPH,NET,P2P,SHM"}
"""Environment with which NCCL logs its transports."""
OVER_THE_NETWORK: Mapping[str, str] = {"NCCL_P2P_DISABLE": "1", "NCCL_SHM_DISABLE": "1"}
"""Environment with which GPUs of one host communicate through its network adapters, as they do with other hosts."""
CHANNEL = re.compile(r"NCCL INFO Channel \d+(?:/\d+)? : \d+\[\w+\] -> \d+\[\w+\](?: \[send\])? via (\S+)")
PATTERN = re.compile(r"NCCL INFO Pattern \d+, .*type (\w+)/\w+")
NVLINK = {"LOC", "NVL", "NVB", "C2C"}
"""Types of paths between GPUs that stay on NVLink; other paths use PCIe. Source: NCCL 2.30, graph/topo.cc."""
NVLINK_PAIR = re.compile(r"^\s*GPU\d+\s.*\bNV\d+\b", re.MULTILINE)
"""Line of ``nvidia-smi topo -m`` for a GPU that has NVLinks to another GPU."""
AVERAGE = re.compile(r"^# Avg bus bandwidth\s*: *([\d.]+)", re.MULTILINE)
WRONG_VALUES = re.compile(r"^# Out of bounds values\s*: *(\d+)", re.MULTILINE)


@dataclass(frozen=True)
class AllReduce:
    """The result of one all-reduce."""

    gb_per_s: float
    """Bus bandwidth in 10^9 bytes per second, comparable with that of the links for any number of GPUs."""
    transports: tuple[str, ...]
    """Transports in use, the most frequent first: a Transport, or NCCL's name of an unknown one."""


def argv(program: str, gpus: int, size: str) -> tuple[str, ...]:
    """Return the command for one all-reduce with checked results, in one process.

    Args:
        gpus: Number of GPUs.
        size: Data size on each GPU, such as ``8G``.
    """
    return (program, "-b", size, "-e", size, "-g", str(gpus), "-c", "1")


def parse(text: str) -> AllReduce:
    """Return the result in the output of all_reduce_perf.

    Raises:
        MeasurementFailed: the output has no result, values were wrong, or NCCL did not log its transports.
    """
    average, wrong_values = AVERAGE.search(text), WRONG_VALUES.search(text)
    if not average or not wrong_values:
        lines = [line for line in text.splitlines() if line.strip()][-1:] or ["nothing"]
        raise MeasurementFailed(f"all_reduce_perf printed no result; its last line: {lines[0]}")
    if int(wrong_values[1]):
        raise MeasurementFailed(f"all_reduce_perf got {wrong_values[1]} wrong values")
    transports = tuple(name for name, _ in Counter(_transports(text)).most_common())
    if not transports:
        raise MeasurementFailed("NCCL logged no transports, which it does with NCCL_DEBUG=INFO")
    return AllReduce(float(average[1]), transports)


def describe_fallback(result: AllReduce, expected: str) -> str:
    """Return which other transports than *expected* were used; empty if there were none."""
    others = [name for name in result.transports if name != expected]
    return f"went over {' and '.join(others)}, not over {expected} alone" if others else ""


def has_nvlink(topology: str) -> bool:
    """Return whether ``nvidia-smi topo -m`` shows NVLinks between GPUs."""
    return bool(NVLINK_PAIR.search(topology))


def _transports(text: str) -> list[str]:
    paths, types = CHANNEL.findall(text), PATTERN.findall(text)
    if not types and any(path.startswith("P2P") for path in paths):
        raise MeasurementFailed("NCCL logged no links between GPUs, which it does with NCCL_DEBUG_SUBSYS=GRAPH")
    over_pcie = any(type not in NVLINK for type in types)
    return [_transport(path, over_pcie) for path in paths]


def _transport(path: str, over_pcie: bool) -> str:
    kind, _, detail = path.partition("/")
    if kind == "P2P":
        return "PCIe" if over_pcie else "NVLink"
    if kind == "SHM":
        return "shared memory"
    network = detail.partition("/")[0]
    if kind == "NET" and network.startswith("IB"):
        return "RDMA"
    return "TCP" if (kind, network) == ("NET", "Socket") else path
