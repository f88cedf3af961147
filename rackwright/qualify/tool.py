"""The programs that measure GPUs: who brings them, and where they are found."""

from collections.abc import Mapping

_DCGM = "NVIDIA's packages datacenter-gpu-manager-4-core and -cuda12 or -cuda13 bring it"
BROUGHT_BY: Mapping[str, str] = {
    "dcgmi": _DCGM,
    "nvbandwidth": _DCGM,
    "all_reduce_perf": "it is made of NVIDIA/nccl-tests with the CUDA of role cuda, and put into /usr/local/bin",
}
"""No role of ours brings one of them yet."""
OTHERS: Mapping[str, str] = {
    "rocm": "rocm-bandwidth-test, rccl-tests and rvs",
    "gaudi": "hl_qual and hccl_demo",
    "ascend": "ascend-dmi",
    "jetson": "no tool that is known here",
}
"""What there is for accelerators that are not asked of NVIDIA's library, by the role of their driver."""
CUDA_13_SINCE = 580
"""The first branch of the driver that runs what is built with CUDA 13. Source: cuda-minimum of the catalogue."""
FIND = """
PATH=$PATH:/usr/local/cuda/bin
for name in dcgmi all_reduce_perf nvidia-smi; do printf '%s %s\\n' "$name" "$(command -v "$name")"; done
own=/usr/libexec/datacenter-gpu-manager-4/plugins/cuda$1/nvbandwidth # DCGM has one beside its plugins
printf 'nvbandwidth %s\\n' "$(command -v nvbandwidth || ls "$own" 2>/dev/null)"
printf 'rdma %s\\n' "$(ls /sys/class/infiniband 2>/dev/null | head -n 1)"
"""
"""In sh; given the release of CUDA. It prints each program with its path, and the first RDMA device."""


def find(driver: str) -> tuple[str, ...]:
    """Return the command for a host with *driver*, a version."""
    return ("sh", "-c", FIND, "sh", "13" if int(driver.partition(".")[0]) >= CUDA_13_SINCE else "12")


def found(text: str) -> dict[str, str]:
    """Return what there is by its name, of what FIND printed."""
    lines = (line.partition(" ") for line in text.splitlines())
    return {name: path for name, _, path in lines if path}
