"""The environment variables that a run or a server gives to its processes: their names, and the form of each value."""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

COUNT_MAX, TEXT_MAX, NUMBER_MAX = 64, 512, 10**9

Value = int | str
"""A whole number, or a text."""


@dataclass(frozen=True)
class Form:
    """The form of a variable's value."""

    description: str
    pattern: str
    """Regular expression of a text, from its beginning to its end."""
    numbers: tuple[int, int] | None = None
    """Smallest and largest whole number; None if the value is no number."""


def python_path() -> str:
    """Return PYTHONPATH for a process that imports this package: its directory or archive, before the present ones."""
    return os.pathsep.join([str(Path(__file__).parents[1]), *filter(None, [os.environ.get("PYTHONPATH")])])


def choice(*words: str) -> Form:
    """Return the form of a value that is one of *words*."""
    return Form(", ".join(words[:-1]) + f" or {words[-1]}", "|".join(map(re.escape, words)))


SWITCH = Form("1 or 0", "[01]", (0, 1))
NUMBER = Form(f"a whole number from -{NUMBER_MAX} to {NUMBER_MAX}", "-?[0-9]{1,9}", (-NUMBER_MAX, NUMBER_MAX))
SIZE = Form("bytes, such as 8k or 4m, or auto or inf", "[0-9]{1,12}[kKmMgG]?[bB]?|auto|inf", (0, NUMBER_MAX))
WORDS = Form("words with commas between them, such as Ring,Tree or ^IB", r"\^?[A-Za-z0-9_]{1,40}(,[A-Za-z0-9_]{1,40})*")
ADAPTERS = Form(
    "adapters and ports with commas between them, such as =mlx5_0,mlx5_1:1",
    r"\^?=?[A-Za-z0-9_.-]{1,40}(:[0-9]{1,3})?(,[A-Za-z0-9_.-]{1,40}(:[0-9]{1,3})?)*",
)
ALLOCATOR = Form(
    "options of the allocator, such as expandable_segments:True,max_split_size_mb:512",
    r"[a-z0-9_]{1,40}:[A-Za-z0-9_.]{1,20}(,[a-z0-9_]{1,40}:[A-Za-z0-9_.]{1,20})*",
)
NCCL_PATH, FAMILY = choice("LOC", "NVL", "PIX", "PXB", "PHB", "SYS"), choice("AF_INET", "AF_INET6")

BY_SOURCE: Mapping[str, Mapping[Form, str]] = {
    "NCCL 2.29.7: libnccl.so.2, and Environment Variables of the user guide": {
        choice("VERSION", "WARN", "INFO", "TRACE"): "NCCL_DEBUG",
        WORDS: "NCCL_ALGO NCCL_DEBUG_SUBSYS NCCL_PROTO",
        ADAPTERS: "NCCL_IB_HCA",
        FAMILY: "NCCL_IB_ADDR_FAMILY NCCL_SOCKET_FAMILY",
        NCCL_PATH: "NCCL_NET_GDR_LEVEL NCCL_P2P_LEVEL",
        choice("IB", "Socket"): "NCCL_NET",
        choice("GROUP", "PARALLEL"): "NCCL_LAUNCH_MODE",
        SWITCH: """
            NCCL_CHECK_POINTERS NCCL_COLLNET_ENABLE NCCL_COMM_BLOCKING NCCL_CUMEM_ENABLE NCCL_CUMEM_HOST_ENABLE
            NCCL_DMABUF_ENABLE NCCL_GRAPH_MIXING_SUPPORT NCCL_GRAPH_REGISTER NCCL_IB_ADAPTIVE_ROUTING NCCL_IB_DISABLE
            NCCL_IB_MERGE_NICS NCCL_IB_MERGE_VFS NCCL_IB_RETURN_ASYNC_EVENTS NCCL_IB_SPLIT_DATA_ON_QPS
            NCCL_IGNORE_CPU_AFFINITY NCCL_LOCAL_REGISTER NCCL_NET_GDR_C2C NCCL_NET_GDR_READ NCCL_NET_SHARED_BUFFERS
            NCCL_NET_SHARED_COMMS NCCL_P2P_DIRECT_DISABLE NCCL_P2P_DISABLE NCCL_P2P_USE_CUDA_MEMCPY NCCL_PXN_DISABLE
            NCCL_RAS_ENABLE NCCL_RUNTIME_CONNECT NCCL_SET_STACK_SIZE NCCL_SET_THREAD_NAME NCCL_SHM_DISABLE
            NCCL_SHM_USE_CUDA_MEMCPY
        """,
        NUMBER: """
            NCCL_BUFFSIZE NCCL_CGA_CLUSTER_SIZE NCCL_COLLNET_NODE_THRESHOLD NCCL_CROSS_NIC NCCL_CTA_POLICY
            NCCL_IB_FIFO_TC NCCL_IB_GID_INDEX NCCL_IB_PCI_RELAXED_ORDERING NCCL_IB_QPS_PER_CONNECTION NCCL_IB_RETRY_CNT
            NCCL_IB_ROCE_VERSION_NUM NCCL_IB_SL NCCL_IB_TC NCCL_IB_TIMEOUT NCCL_MAX_CTAS NCCL_MAX_NCHANNELS
            NCCL_MIN_CTAS NCCL_MIN_NCHANNELS NCCL_MNNVL_ENABLE NCCL_NCHANNELS_PER_NET_PEER NCCL_NSOCKS_PERTHREAD
            NCCL_NTHREADS NCCL_NVB_DISABLE NCCL_NVLS_ENABLE NCCL_P2P_NET_CHUNKSIZE NCCL_P2P_PXN_LEVEL
            NCCL_SOCKET_NTHREADS NCCL_SOCKET_RETRY_CNT NCCL_SOCKET_RETRY_SLEEP_MSEC NCCL_WORK_FIFO_BYTES
        """,
    },
    "CUDA C++ Programming Guide: CUDA Environment Variables": {
        SWITCH: """
            CUDA_AUTO_BOOST CUDA_CACHE_DISABLE CUDA_DISABLE_PTX_JIT CUDA_FORCE_PTX_JIT CUDA_LAUNCH_BLOCKING
        """,
        NUMBER: "CUDA_CACHE_MAXSIZE CUDA_DEVICE_MAX_CONNECTIONS CUDA_DEVICE_MAX_COPY_CONNECTIONS",
        choice("DEFAULT", "EAGER", "LAZY"): "CUDA_MODULE_DATA_LOADING CUDA_MODULE_LOADING",
        choice("0.25x", "0.5x", "2x", "4x"): "CUDA_SCALE_LAUNCH_QUEUES",
    },
    "PyTorch 2.13: CUDA Environment Variables": {
        ALLOCATOR: "PYTORCH_ALLOC_CONF PYTORCH_CUDA_ALLOC_CONF PYTORCH_HIP_ALLOC_CONF",
        SWITCH: """
            PYTORCH_NO_CUDA_MEMORY_CACHING TORCH_ALLOW_TF32_CUBLAS_OVERRIDE TORCH_BLAS_PREFER_HIPBLASLT
            TORCH_ROCM_AOTRITON_ENABLE_EXPERIMENTAL TORCH_SHOW_CPP_STACKTRACES
        """,
    },
    "PyTorch 2.13: torch.distributed, ProcessGroupNCCL Environment Variables": {
        choice("FATAL", "ERROR", "WARNING", "INFO"): "TORCH_CPP_LOG_LEVEL",
        choice("DETAIL", "INFO", "OFF"): "TORCH_DISTRIBUTED_DEBUG",
        SWITCH: """
            TORCH_NCCL_AVOID_RECORD_STREAMS TORCH_NCCL_BLOCKING_WAIT TORCH_NCCL_CUDA_EVENT_CACHE TORCH_NCCL_DESYNC_DEBUG
            TORCH_NCCL_ENABLE_MONITORING TORCH_NCCL_ENABLE_TIMING TORCH_NCCL_HIGH_PRIORITY TORCH_NCCL_NAN_CHECK
            TORCH_NCCL_PROPAGATE_ERROR TORCH_NCCL_RETHROW_CUDA_ERRORS TORCH_NCCL_USE_COMM_NONBLOCKING
            TORCH_NCCL_USE_TENSOR_REGISTER_ALLOCATOR_HOOK
        """,
        NUMBER: """
            TORCH_NCCL_ASYNC_ERROR_HANDLING TORCH_NCCL_COORD_CHECK_MILSEC TORCH_NCCL_HEARTBEAT_TIMEOUT_SEC
        """,
    },
    "PyTorch 2.13: torch/_inductor/config.py": {
        SWITCH: """
            TORCHINDUCTOR_COORDINATE_DESCENT_TUNING TORCHINDUCTOR_FREEZING TORCHINDUCTOR_MAX_AUTOTUNE
            TORCHINDUCTOR_MAX_AUTOTUNE_GEMM TORCHINDUCTOR_MAX_AUTOTUNE_POINTWISE
        """,
        NUMBER: "TORCHINDUCTOR_COMPILE_THREADS",
    },
    "vLLM 001f69f: vllm/envs.py": {
        choice("INFO", "WARNING", "ERROR"): "VLLM_LOGGING_LEVEL",
        choice("fork", "spawn"): "VLLM_WORKER_MULTIPROC_METHOD",
        choice("FP", "INT8", "INT6", "INT4", "NONE"): "VLLM_ROCM_QUICK_REDUCE_QUANTIZATION",
        choice("HND", "NHD"): "VLLM_KV_CACHE_LAYOUT",
        WORDS: "VLLM_ALL2ALL_BACKEND VLLM_ATTENTION_BACKEND VLLM_DISABLED_KERNELS VLLM_PP_LAYER_PARTITION",
        SWITCH: """
            VLLM_COMPUTE_NANS_IN_LOGITS VLLM_CPU_MOE_PREPACK VLLM_CPU_SGL_KERNEL VLLM_DISABLE_COMPILE_CACHE
            VLLM_ENABLE_FUSED_MOE_ACTIVATION_CHUNKING VLLM_ENABLE_V1_MULTIPROCESSING VLLM_FLASHINFER_FORCE_TENSOR_CORES
            VLLM_MARLIN_USE_ATOMIC_ADD VLLM_MLA_DISABLE VLLM_ROCM_CUSTOM_PAGED_ATTN VLLM_ROCM_FP8_PADDING
            VLLM_ROCM_MOE_PADDING VLLM_ROCM_QUICK_REDUCE_CAST_BF16_TO_FP16 VLLM_ROCM_USE_AITER
            VLLM_ROCM_USE_AITER_LINEAR VLLM_ROCM_USE_AITER_MLA VLLM_ROCM_USE_AITER_MOE VLLM_ROCM_USE_AITER_PAGED_ATTN
            VLLM_ROCM_USE_AITER_RMSNORM VLLM_ROCM_USE_SKINNY_GEMM VLLM_SKIP_P2P_CHECK VLLM_SLEEP_WHEN_IDLE
            VLLM_USE_CUDNN_PREFILL VLLM_USE_DEEP_GEMM VLLM_USE_FLASHINFER_MOE_FP4 VLLM_USE_FLASHINFER_MOE_FP8
            VLLM_USE_FLASHINFER_SAMPLER VLLM_USE_TRITON_AWQ VLLM_USE_TRITON_FLASH_ATTN VLLM_USE_V1
        """,
        NUMBER: """
            VLLM_CPU_NUM_OF_RESERVED_CPU VLLM_ENGINE_ITERATION_TIMEOUT_S VLLM_EXECUTE_MODEL_TIMEOUT_SECONDS
            VLLM_FLASH_ATTN_VERSION VLLM_FUSED_MOE_CHUNK_SIZE VLLM_LOG_BATCHSIZE_INTERVAL VLLM_MOE_DP_CHUNK_SIZE
            VLLM_MQ_MAX_CHUNK_BYTES_MB VLLM_RINGBUFFER_WARNING_INTERVAL VLLM_ROCM_QUICK_REDUCE_MAX_SIZE_BYTES_MB
            VLLM_RPC_TIMEOUT VLLM_XGRAMMAR_CACHE_MB
        """,
    },
    "UCX: ucx_info -f": {
        choice("FATAL", "ERROR", "WARN", "INFO", "DEBUG"): "UCX_LOG_LEVEL",
        choice("auto", "get_zcopy", "put_zcopy", "get_ppln", "put_ppln", "am"): "UCX_RNDV_SCHEME",
        choice("y", "n", "try"): "UCX_MEMTYPE_CACHE UCX_PROTO_ENABLE",
        choice("on", "off", "auto", "try"): "UCX_IB_PCI_RELAXED_ORDERING",
        WORDS: "UCX_TLS",
        ADAPTERS: "UCX_NET_DEVICES",
        SIZE: "UCX_RNDV_THRESH UCX_ZCOPY_THRESH",
        NUMBER: "UCX_IB_GID_INDEX UCX_IB_SL UCX_IB_TRAFFIC_CLASS UCX_MAX_EAGER_RAILS UCX_MAX_RNDV_RAILS",
    },
    "ROCm: Environment variables reference": {
        SWITCH: "HIP_FORCE_DEV_KERNARG HSA_ENABLE_SDMA HSA_NO_SCRATCH_RECLAIM RCCL_MSCCL_ENABLE",
        NUMBER: "GPU_MAX_HW_QUEUES",
    },
    "OpenMP 5.2: Environment Variables": {
        SWITCH: "OMP_DYNAMIC",
        NUMBER: "OMP_NUM_THREADS",
        SIZE: "OMP_STACKSIZE",
        choice("cores", "sockets", "threads"): "OMP_PLACES",
        choice("close", "false", "master", "spread", "true"): "OMP_PROC_BIND",
        choice("active", "passive"): "OMP_WAIT_POLICY",
    },
}
"""Variables that tune communication, memory, logs and kernels, by their source and the form of their values.

A name is here after a look at what it does: no variable that loads code, reads or writes a file, opens a listener,
shows other GPUs, or logs what clients ask: at level DEBUG vLLM writes whole messages and answers.
"""
FORMS: Mapping[str, Form] = {
    name: form for forms in BY_SOURCE.values() for form, names in forms.items() for name in names.split()
}
OURS = frozenset({
    "CUDA_DEVICE_ORDER", "CUDA_VISIBLE_DEVICES", "GLOO_SOCKET_IFNAME", "HIP_VISIBLE_DEVICES", "NCCL_SOCKET_IFNAME",
    "TORCH_COMPILE_DISABLE", "VLLM_ALLOW_RUNTIME_LORA_UPDATING", "VLLM_API_KEY", "VLLM_CPU_KVCACHE_SPACE",
    "VLLM_CPU_OMP_THREADS_BIND", "VLLM_HOST_IP", "VLLM_MEDIA_URL_ALLOW_REDIRECTS",
    "VLLM_NIXL_SIDE_CHANNEL_HOST", "VLLM_NIXL_SIDE_CHANNEL_PORT", "VLLM_NO_USAGE_STATS",
})  # fmt: skip
"""Names that follow from the declaration itself, and may be set by it alone."""
OURS_BEGIN = ("HOROVOD_GLOO_", "HOROVOD_HOSTNAME", "HOROVOD_RANK", "HOROVOD_SIZE", "HOROVOD_LOCAL_", "VLLM_DP_")
"""Beginnings of names that the launchers set for each process."""


def variable_problem(name: str, value: object) -> tuple[str, str] | None:
    """Return what is wrong with a variable and what is expected; None if a run or server may set it."""
    if name in OURS or name.startswith(OURS_BEGIN):
        return f"got {name[:100]}", "it follows from the declaration: its hosts, GPUs, fabric and settings"
    if (form := FORMS.get(name)) is None:
        return f"got the name {name[:100]!r}", "a name of docs/reference/variables.md, such as NCCL_IB_HCA"
    if isinstance(value, int) and not isinstance(value, bool) and form.numbers:
        return None if form.numbers[0] <= value <= form.numbers[1] else _wrong(name, value, form)
    if isinstance(value, str) and len(value) <= TEXT_MAX and re.fullmatch(form.pattern, value):
        return None
    return _wrong(name, value, form)


def _wrong(name: str, value: object, form: Form) -> tuple[str, str]:
    shown = f"a number of {value.bit_length()} bits" if isinstance(value, int) and abs(value) > 2**64 else repr(value)
    return f"got {shown[:150]} for {name}", form.description


def as_environment(variables: Mapping[str, Value]) -> dict[str, str]:
    """Return *variables* in the form in which a process has them."""
    return {name: str(value) for name, value in sorted(variables.items())}
