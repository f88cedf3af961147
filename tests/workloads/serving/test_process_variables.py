"""The environment variables of runs and servers: which may be declared, and those that follow from the declaration."""

import os
from pathlib import Path

import pytest
from pydantic import ValidationError

from workloads.process_variables import COUNT_MAX, FORMS, OURS, OURS_BEGIN, TEXT_MAX, as_environment, variable_problem
from workloads.serving import start as starting
from workloads.serving.runtimes import vllm as runtime
from workloads.serving.settings import ServingSettings
from workloads.serving.vllm_settings import Adapter, ReplicaSettings, VllmSettings
from workloads.training.plan import LaunchHost, LaunchPlan, process_environment

FOLDER = Path("/var/lib")
BY_SETTINGS_OF_THEIR_OWN = {"HF_HUB_OFFLINE", "OMP_NUM_THREADS", "PATH", "HOME", "PYTHONPATH", "RACKWRIGHT_PROVENANCE"}
"""Variables with other beginnings than those that may be declared, and the number of threads, which may be."""


def set_by_servers(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """Return the names that servers set by themselves, over the settings that set any."""
    monkeypatch.setattr(os, "environ", {})
    replica = ReplicaSettings(addresses=("10.0.0.1", "10.0.0.2"), rank=1, interface="fabric0", key_file="/key")
    adapter = Adapter(directory="/a", sha256="0" * 64)
    names: set[str] = set()
    for vllm in (
        VllmSettings(cpu_cache_gib=1, adapters={"a": adapter}, adapters_file="/adapters", adapters_rank=8),
        VllmSettings(devices=(0, 1), replica=replica),
    ):
        names |= runtime._environment(Path("/bin"), "/tmp", "key", ServingSettings(vllm=vllm)).keys()
    return names


def set_by_runs(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    here = LaunchHost("node-1", "10.0.0.1")
    plan = LaunchPlan(
        name="digits", host="node-1", hosts=(here,), processes=1, launcher="torchrun", min_processes=None,
        interface="fabric0", rendezvous_port=29400, config=FOLDER, out=FOLDER, home=FOLDER, log=FOLDER,
        grace_seconds=10, data=None, provenance={},
    )  # fmt: skip
    return {*process_environment(plan)}


def test_each_variable_that_follows_from_the_declaration_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    names = (set_by_servers(monkeypatch) | set_by_runs(monkeypatch)) - BY_SETTINGS_OF_THEIR_OWN

    assert len(names) >= 12
    assert [name for name in sorted(names) if variable_problem(name, "1") is None] == []
    assert names <= OURS


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("NCCL_IB_HCA", "=mlx5_0,mlx5_1"), ("NCCL_DEBUG", "INFO"), ("VLLM_ROCM_USE_AITER", 1), ("OMP_NUM_THREADS", 4),
        ("NCCL_IB_GID_INDEX", 3), ("CUDA_DEVICE_MAX_CONNECTIONS", 1),
        ("PYTORCH_CUDA_ALLOC_CONF", "expandable_segments:True,max_split_size_mb:512"), ("NCCL_IB_HCA", "^=mlx5_2:1"),
        ("NCCL_ALGO", "^Ring"), ("NCCL_IB_TC", -1), ("UCX_RNDV_THRESH", "8k"), ("UCX_NET_DEVICES", "mlx5_0:1"),
        ("CUDA_SCALE_LAUNCH_QUEUES", "0.25x"), ("NCCL_IB_DISABLE", "1"), ("OMP_PROC_BIND", "close"),
    ],
)  # fmt: skip
def test_variables_of_libraries_may_be_declared(name: str, value: int | str) -> None:
    assert variable_problem(name, value) is None
    assert as_environment({name: value}) == {name: str(value)}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("LD_PRELOAD", "/x.so"), ("PYTHONPATH", "/x"), ("PATH", "/x"), ("NCCL_NET_PLUGIN", "x"), ("VLLM_PLUGINS", "x"),
        ("NCCL_ENV_PLUGIN", "x"), ("VLLM_TORCH_PROFILER_DIR", "/tmp"), ("VLLM_DP_RANK", 1), ("HOROVOD_RANK", 1),
        ("nccl_debug", "INFO"), ("NCCL_", "x" * (TEXT_MAX + 1)), ("NCCL_DEBUG", ""), ("NCCL_DEBUG", "a\0b"),
        ("NCCL_DEBUG", "a\nb"), ("NCCL_DEBUG", True), ("NCCL_DEBUG", 2**30), ("NCCL_DEBUG", 1.5), ("NCCL_DEBUG", None),
        ("NCCL_" + "X" * 100, 1), ("NCCL_DEBUG\n", 1), ("NCCL_IB_DISABLE", 2), ("NCCL_IB_DISABLE", "yes"),
        ("NCCL_IB_TC", 2**70), ("NCCL_IB_HCA", "/dev/x"), ("NCCL_IB_HCA", "mlx5_0\n"), ("UCX_TLS", "rc," * TEXT_MAX),
        ("PYTORCH_CUDA_ALLOC_CONF", "a:/b"), ("CUDA_SCALE_LAUNCH_QUEUES", "0x25x"), ("NCCL_NET", "own"),
        ("VLLM_LOGGING_LEVEL", "DEBUG"),
    ],
)  # fmt: skip
def test_other_names_and_values_are_refused(name: str, value: object) -> None:
    assert variable_problem(name, value) is not None


OF_OTHER_EFFECT = (
    "VLLM_NCCL_SO_PATH", "VLLM_CUDART_SO_PATH", "UCX_MODULE_DIR", "FI_PROVIDER_PATH", "OMP_TOOL_LIBRARIES",
    "ROCBLAS_TENSILE_LIBPATH", "UCX_GDB_COMMAND", "CUDA_HOME", "HIP_CLANG_PATH", "TRITON_CUOBJDUMP_PATH",
    "TORCHINDUCTOR_CACHE_DIR", "TORCH_EXTENSIONS_DIR", "VLLM_CACHE_ROOT", "AITER_JIT_DIR", "TRITON_OVERRIDE_DIR",
    "TRITON_CACHE_MANAGER", "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "NCCL_RAS_ADDR", "VLLM_NIXL_SIDE_CHANNEL_HOST",
    "CUDA_COREDUMP_FILE", "NCCL_DEBUG_FILE", "TORCH_LOGS_OUT", "UCX_LOG_FILE", "GPU_DEVICE_ORDINAL",
    "NCCL_COMM_ID", "NCCL_TOPO_FILE", "NCCL_NET_PLUGIN", "VLLM_PLUGINS", "VLLM_USE_MODELSCOPE",
    "TORCH_NCCL_DEBUG_INFO_TEMP_FILE", "CUDA_INJECTION64_PATH", "VLLM_DEBUG_LOG_API_SERVER_RESPONSE",
    "ROCR_VISIBLE_DEVICES",
)  # fmt: skip
"""Names that load code, run programs, read or write files, open listeners, show other GPUs, or log requests."""


@pytest.mark.parametrize("name", OF_OTHER_EFFECT)
@pytest.mark.parametrize("value", [1, "x", "module:d"])
def test_a_name_that_does_more_than_tune_is_refused(name: str, value: int | str) -> None:
    assert variable_problem(name, value) is not None


def test_no_listed_name_follows_from_the_declaration() -> None:
    assert [name for name in FORMS if name in OURS or name.startswith(OURS_BEGIN)] == []


@pytest.mark.parametrize("value", ["/x", "a/b", "a b", "$(x)", "", "a\x00b", "a\tb", "http://192.0.2.1"])
def test_no_form_takes_a_path_a_command_or_an_address(value: str) -> None:
    assert [name for name in FORMS if variable_problem(name, value) is None] == []


def test_only_adapters_and_the_allocator_have_a_colon() -> None:
    names = {name for name in FORMS if variable_problem(name, "word:1") is None}

    assert names == {
        "NCCL_IB_HCA", "PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF", "PYTORCH_HIP_ALLOC_CONF", "UCX_NET_DEVICES",
    }  # fmt: skip


def test_a_server_sets_them_before_its_runtime_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "environ", {"NCCL_DEBUG": "WARN"})
    seen: dict[str, str] = {}
    monkeypatch.setattr("workloads.serving.serve.serve", lambda directory, settings: seen.update(os.environ))
    starting.start(FOLDER, ServingSettings(variables={"NCCL_DEBUG": "INFO", "CUDA_DEVICE_MAX_CONNECTIONS": 8}))

    assert seen == {"NCCL_DEBUG": "INFO", "CUDA_DEVICE_MAX_CONNECTIONS": "8"}


def test_vllm_has_them_and_its_own_win(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "environ", {"VLLM_ROCM_USE_AITER": "1", "VLLM_HOST_IP": "192.0.2.1"})
    variables = runtime._environment(Path("/bin"), "/tmp", "key", ServingSettings())

    assert (variables["VLLM_ROCM_USE_AITER"], variables["VLLM_HOST_IP"]) == ("1", "127.0.0.1")


def test_settings_refuse_what_a_declaration_refuses() -> None:
    with pytest.raises(ValidationError, match="got VLLM_API_KEY: it follows from the declaration"):
        ServingSettings(variables={"VLLM_API_KEY": "x"})
    with pytest.raises(ValidationError, match="at most 64 items"):
        ServingSettings(variables=dict.fromkeys(sorted(FORMS)[: COUNT_MAX + 1], 1))
