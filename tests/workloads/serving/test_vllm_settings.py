"""The settings of vLLM alone: the arguments and variables that follow from them, and options that are refused."""

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from workloads.serving.adapters import check_adapters
from workloads.serving.model import DamagedModel
from workloads.serving.settings import ServingSettings, with_model_defaults
from workloads.serving.vllm_options import option_problem
from workloads.serving.vllm_settings import Adapter, ReplicaSettings, VllmSettings, arguments, environment, lora_rank

HOSTS = ("10.141.0.21", "10.141.0.22")


def replica(rank: int) -> ReplicaSettings:
    return ReplicaSettings(addresses=HOSTS, rank=rank, interface="fabric0", key_file="/etc/key")


def line(tensor_parallel: int = 8, **settings: object) -> str:
    return " ".join(arguments(VllmSettings.model_validate(settings), tensor_parallel))


def test_defaults_add_nothing() -> None:
    assert line() == ""
    assert environment(VllmSettings()) == {"VLLM_HOST_IP": "127.0.0.1"}


def test_stages_over_two_hosts() -> None:
    common = "--pipeline-parallel-size 2 --nnodes 2 --distributed-executor-backend mp --node-rank {} " \
        "--master-addr 10.141.0.21 --master-port 29500"  # fmt: skip
    assert line(pipeline_parallel=2, replica=replica(0)) == common.format(0)
    assert line(pipeline_parallel=2, replica=replica(1)) == f"{common.format(1)} --headless"


def test_ranks_over_two_hosts() -> None:
    common = (
        "--data-parallel-size 16 --data-parallel-size-local 8 --enable-expert-parallel "
        "--data-parallel-address 10.141.0.21 --data-parallel-rpc-port 29501"
    )
    ranks = {"data_parallel": 16, "expert_parallel": True}
    assert line(1, **ranks, replica=replica(0)) == f"{common} --api-server-count 1"
    assert line(1, **ranks, replica=replica(1)) == f"{common} --data-parallel-start-rank 8 --headless"


def test_features() -> None:
    config = json.dumps({"method": "mtp", "num_speculative_tokens": 1})
    assert line(
        kv_cache_dtype="fp8", reasoning_parser="deepseek_r1", tool_parser="deepseek_v3", speculative_tokens=1,
        prefix_cache=False, decode_context_parallel=8,
    ) == (
        "--decode-context-parallel-size 8 --kv-cache-dtype fp8 --reasoning-parser deepseek_r1 "
        "--enable-auto-tool-choice --tool-call-parser deepseek_v3 "
        f"--speculative-config {config} --no-enable-prefix-caching"
    )  # fmt: skip
    assert line(prefix_cache=True) == "--enable-prefix-caching"


def test_adapters_are_served_by_name() -> None:
    adapters = {
        name: Adapter(directory=f"/srv/{name}", sha256="ab" * 32, rank=rank) for name, rank in (("b", 9), ("a", 2))
    }
    assert line(adapters=adapters) == "--enable-lora --max-lora-rank 16 --lora-modules a=/srv/a b=/srv/b"
    settings = {"adapters_file": "/etc/adapters.json", "adapters_rank": 20}
    assert line(**settings) == "--enable-lora --max-lora-rank 32", "the file may be empty at first"
    assert line(adapters=adapters, **settings).startswith("--enable-lora --max-lora-rank 32 --lora-modules a=")
    with pytest.raises(ValidationError, match="adapters_file and adapters_rank go together"):
        VllmSettings(adapters_rank=1)
    assert [lora_rank(rank) for rank in (1, 2, 64, 65, 600)] == [1, 8, 64, 128, 600]


def test_adapters_with_other_weights_are_refused_all_at_once(tmp_path: Path) -> None:
    weights = tmp_path / "adapter_model.safetensors"
    weights.write_bytes(b"weights")
    digest = hashlib.sha256(b"weights").hexdigest()
    right = Adapter(directory=str(tmp_path), sha256=digest)
    check_adapters({"right": right})
    with pytest.raises(DamagedModel) as refused:
        check_adapters({
            "right": right, "other": Adapter(directory=str(tmp_path), sha256="ab" * 32),
            "gone": Adapter(directory=str(tmp_path / "gone"), sha256=digest),
        })  # fmt: skip
    assert [each.expected for each in refused.value.diagnostics] == [
        "the adapter other with the sha256 abababababab…", f"the adapter gone with the sha256 {digest[:12]}…",
    ]  # fmt: skip


def test_options_are_passed_as_given() -> None:
    options = {"enforce-eager": True, "enable-chunked-prefill": False, "max-num-batched-tokens": 4096,
               "compilation-config": {"mode": 2}, "scheduling-policy": "priority"}  # fmt: skip
    assert arguments(VllmSettings(options=options), 1) == [
        "--enforce-eager", "--no-enable-chunked-prefill", "--max-num-batched-tokens=4096",
        '--compilation-config={"mode": 2}', "--scheduling-policy=priority",
    ]  # fmt: skip


@pytest.mark.parametrize(
    "name",
    ["host", "po", "uds", "api-key", "ssl-keyfile", "no-enable-log-requests", "data-parallel-hybrid-lb",
     "tensor-parallel", "lora-modules", "config", "kv-transfer-config.kv_connector", "kv-offloading-size"],
)  # fmt: skip
def test_options_that_follow_from_other_settings_are_refused(name: str) -> None:
    with pytest.raises(ValidationError, match=f"option {name} follows from other settings"):
        VllmSettings(options={name: "x"})


@pytest.mark.parametrize("name", ["config-format", "model-impl", "tokenizer-mode"])
def test_an_option_that_only_begins_like_one_of_ours_is_passed_by_its_whole_name(name: str) -> None:
    assert arguments(VllmSettings(options={name: "mistral"}), 1) == [f"--{name}=mistral"]
    for other in (name[: name.index("-") + 2], f"{name}-more", name.partition("-")[0]):
        assert option_problem(other, "mistral") == f"option {other} follows from other settings"


@pytest.mark.parametrize("name", [
    "trust-remote-code", "trust", "no-trust-remote-code", "middleware", "worker-extension-cls", "grpc-port",
    "kv-events-config", "logits-processors", "tool-parser-plugin", "logging-config", "logging-config.logging_level",
    "trust-request-chat-template", "profiler-config", "otlp-traces-endpoint", "chat-template", "generation-config",
    "enable-log-deltas", "additional-config", "mm-encoder-fp8-scale-save-path", "default-mm-loras", "output-file",
    "enable-mm-embeds", "log-level", "spec-model", "no-seed", "max-num-batched", "enforce",
])  # fmt: skip
def test_only_listed_options_are_passed(name: str) -> None:
    with pytest.raises(ValidationError, match=f"option {name} is none of docs/reference/vllm-options.md"):
        VllmSettings(options={name: True})


@pytest.mark.parametrize(("name", "value"), [
    ("structured-outputs-config", {"reasoning_parser_plugin": "/tmp/plugin.py"}),
    ("structured-outputs-config.reasoning_parser_plugin", "/tmp/plugin.py"),
    ("structured-outputs-config.backend.x", "xgrammar"), ("speculative-config", {"method": "custom_class"}),
    ("speculative-config", {"method": "ngram", "code_revision": "x"}), ("speculative-config", {"model": "name/on-hub"}),
    ("compilation-config", {"backend": "x.y"}), ("compilation-config.cache_dir", "/etc"),
    ("compilation-config", {"custom_ops": ["x.y"]}), ("compilation-config.pass_config", {"x": "y"}),
    ("hf-overrides", {"auto_map": {"AutoModel": "own.Model"}}), ("hf-overrides", {"a": {"b": {"c": {"d": 1}}}}),
    ("quantization", "x.y"), ("dtype", "a/b"), ("seed", True), ("seed", 2**63), ("seed", "a"), ("seed", float("nan")),
    ("enforce-eager", 1), ("enforce-eager.x", True), ("allowed-media-domains", "http://a/"),
    ("cudagraph-capture-sizes", 1), ("cudagraph-capture-sizes", [1] * 65),
    ("default-chat-template-kwargs", {"a": "x\x1b"}),
    ("default-chat-template-kwargs", {"a b": 1}), ("limit-mm-per-prompt", {"image": "x"}), ("pooler-config", [1]),
])  # fmt: skip
def test_values_of_other_forms_are_refused(name: str, value: Any) -> None:
    """Objects of vLLM's have keys that load code and write files, under names that alone look harmless."""
    with pytest.raises(ValidationError, match=f"option {name} is "):
        VllmSettings(options={name: value})


@pytest.mark.parametrize(("name", "value"), [
    ("max-num-batched-tokens", "16k"), ("hf-overrides", {"rope_parameters": {"rope_type": "yarn", "factor": 4.0}}),
    ("hf-overrides", {"architectures": ["Qwen3ForSequenceClassification"], "classifier_from_token": ["no", "yes"]}),
    ("limit-mm-per-prompt", {"image": 2, "video": {"count": 1, "num_frames": 32}}), ("no-enforce-eager", True),
    ("mm-processor-kwargs", {"num_crops": 4, "do_resize": False}), ("compilation-config.mode", "NONE"),
    ("default-chat-template-kwargs", {"enable_thinking": False, "thinking_mode": "thinking"}),
    ("structured-outputs-config", {"backend": "xgrammar", "disable_any_whitespace": True}),
    ("speculative-config", {"method": "eagle3", "model": "/srv/models/draft", "num_speculative_tokens": 3}),
    ("allowed-media-domains", ["images.example", "10.0.0.1"]), ("cudagraph-capture-sizes", [1, 2, 4]),
    ("override-generation-config", {"temperature": 0.6, "eos_token_id": [1, 2]}), ("tokenizer-mode", "deepseek_v32"),
])  # fmt: skip
def test_options_of_published_recipes_are_passed(name: str, value: Any) -> None:
    assert VllmSettings(options={name: value}).options == {name: value}


@pytest.mark.parametrize("name", ["--host", "trust_remote_code", "a=b", "", "-tp", "Seed", "seed --host"])
def test_only_plain_names_are_options(name: str) -> None:
    assert option_problem(name, 1) == f"option {name!r} is not a name like max-num-batched-tokens"


def test_a_draft_model_is_an_option_until_the_models_own_layers_are_used() -> None:
    options = {"speculative-config": {"method": "ngram", "num_speculative_tokens": 2}}
    assert VllmSettings(options=options).options == options
    with pytest.raises(ValidationError, match="option speculative-config follows from other settings"):
        VllmSettings(options=options, speculative_tokens=1)


@pytest.mark.parametrize(("name", "value"), [
    ("compilation-config", {}), ("compilation-config.custom_ops", ["+silu"]), ("no-enforce-eager", True),
])  # fmt: skip
def test_how_processors_compute_is_no_option(name: str, value: Any) -> None:
    assert VllmSettings(options={name: value}).options == {name: value}
    with pytest.raises(ValidationError, match=f"option {name} follows from other settings"):
        VllmSettings(options={name: value}, cpu_cache_gib=2)


def test_processes_see_their_gpus_and_their_network_alone() -> None:
    assert environment(VllmSettings(devices=(4, 5), replica=replica(1))) == {
        "CUDA_DEVICE_ORDER": "PCI_BUS_ID", "CUDA_VISIBLE_DEVICES": "4,5", "HIP_VISIBLE_DEVICES": "4,5",
        "VLLM_HOST_IP": "10.141.0.22", "GLOO_SOCKET_IFNAME": "fabric0", "NCCL_SOCKET_IFNAME": "=fabric0",
    }  # fmt: skip


def test_processors_compute_without_a_compiler() -> None:
    rotary = '"custom_ops": ["-rotary_embedding"]'
    extension = "--worker-extension-cls workloads.serving.vllm_worker.Worker"
    assert line(cpu_cache_gib=2) == f"{extension} --enforce-eager --compilation-config {{{rotary}}}"
    stages = line(cpu_cache_gib=2, pipeline_parallel=2)
    assert stages.endswith(f'--compilation-config {{{rotary}, "mode": 2, "backend": "eager"}}')
    assert "--enforce-eager" not in stages
    assert environment(VllmSettings(cpu_cache_gib=2)) == {
        "VLLM_HOST_IP": "127.0.0.1", "VLLM_CPU_KVCACHE_SPACE": "2", "VLLM_CPU_OMP_THREADS_BIND": "nobind",
        "TORCH_COMPILE_DISABLE": "1",
    }  # fmt: skip
    assert "TORCH_COMPILE_DISABLE" not in environment(VllmSettings(cpu_cache_gib=2, pipeline_parallel=2))


def test_a_host_outside_its_replica_is_refused() -> None:
    with pytest.raises(ValidationError, match="rank 2 is none of 2 hosts"):
        replica(2)
    assert [VllmSettings(replica=replica(rank)).follows for rank in (0, 1)] == [False, True]


def test_a_models_defaults_hold_unless_something_is_set() -> None:
    lineage = {"defaults": {"context_tokens": 32768, "parallel": 16}}
    found = with_model_defaults(ServingSettings(parallel=2), lineage)
    assert (found.context_tokens, found.parallel) == (32768, 2)
    assert with_model_defaults(ServingSettings(), {}) == ServingSettings()
