"""The programs that measure GPUs: their providers, and their paths on a host."""

from collections.abc import Mapping

_DCGM = "role dcgm installs it"
PROVIDERS: Mapping[str, str] = {
    "dcgmi": _DCGM,
    "nvbandwidth": _DCGM,
    "all_reduce_perf": "build it from NVIDIA/nccl-tests with the CUDA of role cuda, and copy it to /usr/local/bin",
}
"""How each program gets onto a host."""
OTHER_TOOLS: Mapping[str, str] = {
    "rocm": "rocm-bandwidth-test, rccl-tests and rvs",
    "gaudi": "hl_qual and hccl_demo",
    "ascend": "ascend-dmi",
    "jetson": "no tool that rackwright knows",
}
"""Tools of other vendors' accelerators, by the role of their driver."""
CUDA_13_SINCE = 580
"""First driver branch that runs programs built with CUDA 13. Source: cuda-minimum of the catalogue."""
FIND = """
PATH=$PATH:/usr/local/cuda/bin
for name in dcgmi all_reduce_perf nvidia-smi; do printf '%s %s\\n' "$name" "$(command -v "$name")"; done
own=/usr/libexec/datacenter-gpu-manager-4/plugins/cuda$1/nvbandwidth # DCGM has one beside its plugins
printf 'nvbandwidth %s\\n' "$(command -v nvbandwidth || ls "$own" 2>/dev/null)"
printf 'rdma %s\\n' "$(ls /sys/class/infiniband 2>/dev/null | head -n 1)"
"""
"""Shell script that prints each program with its path, and the first RDMA device; its argument is the CUDA release."""


def find_command(driver: str) -> tuple[str, ...]:
    """Return the command that finds the programs on a host; *driver* is the version of its driver."""
    return ("sh", "-c", FIND, "sh", "13" if int(driver.partition(".")[0]) >= CUDA_13_SINCE else "12")


def parse_paths(text: str) -> dict[str, str]:
    """Return the path of each existing program, by name, from the output of FIND."""
    lines = (line.partition(" ") for line in text.splitlines())
    return {name: path for name, _, path in lines if path}
