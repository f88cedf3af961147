"""The environment variables that a run or a server gives to its processes, and those that it may not set."""

import re
from collections.abc import Mapping

NAME = re.compile(r"[A-Z][A-Z0-9_]{0,79}")
PREFIXES = (
    "AITER_", "CUDA_", "FI_", "GLOO_", "GPU_", "HIP_", "HOROVOD_", "HSA_", "MIOPEN_", "MKL_", "NCCL_", "NVSHMEM_",
    "NVTE_", "OMP_", "PYTORCH_", "RCCL_", "ROCBLAS_", "ROCR_", "TORCH_", "TORCHINDUCTOR_", "TRITON_", "UCX_", "VLLM_",
)  # fmt: skip
"""Beginnings of the names that may be set: those of the libraries that compute and communicate."""
OURS = frozenset({
    "CUDA_DEVICE_ORDER", "CUDA_VISIBLE_DEVICES", "GLOO_SOCKET_IFNAME", "HIP_VISIBLE_DEVICES", "NCCL_SOCKET_IFNAME",
    "TORCH_COMPILE_DISABLE", "VLLM_ALLOW_RUNTIME_LORA_UPDATING", "VLLM_API_KEY", "VLLM_CPU_KVCACHE_SPACE",
    "VLLM_CPU_OMP_THREADS_BIND", "VLLM_HOST_IP", "VLLM_MEDIA_URL_ALLOW_REDIRECTS", "VLLM_NO_USAGE_STATS",
})  # fmt: skip
"""Names that follow from the declaration itself, and may be set by it alone."""
OURS_BEGIN = ("HOROVOD_GLOO_", "HOROVOD_HOSTNAME", "HOROVOD_RANK", "HOROVOD_SIZE", "HOROVOD_LOCAL_", "VLLM_DP_")
"""Beginnings of names that the launchers set for each process."""
UNSAFE = frozenset({
    "CUDA_INJECTION64_PATH", "HSA_TOOLS_LIB", "NCCL_CONF_FILE", "NCCL_NET_PLUGIN", "NCCL_PROFILER_PLUGIN",
    "NCCL_TUNER_PLUGIN", "ROCR_VISIBLE_DEVICES", "TRITON_PTXAS_PATH", "VLLM_ALLOW_INSECURE_SERIALIZATION",
    "VLLM_DEBUG_LOG_API_SERVER_RESPONSE", "VLLM_LOGGING_CONFIG_PATH", "VLLM_PLUGINS", "VLLM_PORT",
    "VLLM_SERVER_DEV_MODE", "VLLM_USE_MODELSCOPE",
})  # fmt: skip
"""Names of variables that load code, open listeners, show other GPUs, or write what clients ask into a log."""
UNSAFE_PARTS = ("_PLUGIN", "_PROFILER_DIR", "_PROFILE_DIR")
"""Parts of names with the same effect in other versions of these libraries."""
COUNT_MAX, TEXT_MAX, NUMBER_MAX = 64, 512, 10**9

Value = int | str
"""A whole number, or one printable line of ASCII."""


def variable_problem(name: str, value: object) -> tuple[str, str] | None:
    """Return what is wrong with a variable and what is expected; None if a run or server may set it."""
    if not NAME.fullmatch(name):
        return f"got the name {name[:100]!r}", "a name has capital letters, digits and _, such as NCCL_IB_HCA"
    if name in OURS or name.startswith(OURS_BEGIN):
        return f"got {name}", "it follows from the declaration: its hosts, GPUs, fabric and settings"
    if name in UNSAFE or any(part in name for part in UNSAFE_PARTS):
        return f"got {name}", "it loads code, opens a listener, shows other GPUs, or logs requests"
    if not name.startswith(PREFIXES):
        return f"got {name}", f"names begin with {', '.join(PREFIXES)}"
    if isinstance(value, bool) or not isinstance(value, int | str):
        return f"got {value!r} for {name}"[:200], "a whole number, or a text; switches are 1 and 0"
    if isinstance(value, int) and abs(value) > NUMBER_MAX:
        return f"got a number of {len(str(abs(value)))} digits for {name}", f"at most {NUMBER_MAX}, or a text in quotes"
    if isinstance(value, str) and not re.fullmatch(rf"[\x20-\x7e]{{1,{TEXT_MAX}}}", value):
        return f"got {value[:100]!r} for {name}", f"1 to {TEXT_MAX} printable characters of ASCII, on one line"
    return None


def as_environment(variables: Mapping[str, Value]) -> dict[str, str]:
    """Return *variables* in the form in which a process has them."""
    return {name: str(value) for name, value in sorted(variables.items())}
