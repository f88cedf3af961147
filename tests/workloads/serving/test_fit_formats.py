"""Quantised weights and caches that do not keep all of a text, by the figures that publishers name."""

from typing import Any

import pytest

from workloads.catalogue.models import model_config
from workloads.errors import UserError
from workloads.serving.fit import Gpus, Load, Wish, best_fit, computed_tensors, parse_sizes, reported_bytes, sizes
from workloads.serving.fit.memory import memory
from workloads.serving.fit.quantisation import MXFP4, NVFP4, Format, quantisation_of
from workloads.serving.fit.shape import shape_of

R1, QWEN = model_config("deepseek-r1"), model_config("qwen3-32b")
PLAIN = {name: value for name, value in R1.items() if name != "quantization_config"}
NVIDIA = {"quant_method": "modelopt", "quant_algo": "NVFP4", "ignore": ["lm_head", "*self_attn*", "*mlp.gate*"]}
AWQ = {"quant_method": "awq", "bits": 4, "group_size": 128}
GPTQ = {"quant_method": "gptq", "bits": 8, "group_size": -1}
INT4 = {
    "quant_method": "compressed-tensors", "ignore": ["re:.*self_attn.*", "re:.*shared_experts.*", "lm_head"],
    "config_groups": {"group_0": {"weights": {"num_bits": 4, "type": "int", "group_size": 32}}},
}  # fmt: skip
OSS = {
    "architectures": ["GptOssForCausalLM"], "model_type": "gpt_oss", "head_dim": 64, "hidden_size": 2880,
    "intermediate_size": 2880, "max_position_embeddings": 131072, "num_attention_heads": 64, "num_hidden_layers": 36,
    "num_key_value_heads": 8, "num_local_experts": 128, "num_experts_per_tok": 4, "sliding_window": 128,
    "layer_types": ["sliding_attention", "full_attention"] * 18, "tie_word_embeddings": False, "vocab_size": 201088,
    "quantization_config": {"quant_method": "mxfp4", "modules_to_not_convert": ["model.layers.*.self_attn", "lm_head"]},
}  # fmt: skip
NEXT = {
    "architectures": ["Qwen3NextForCausalLM"], "model_type": "qwen3_next", "dtype": "bfloat16", "head_dim": 256,
    "full_attention_interval": 4, "hidden_size": 2048, "intermediate_size": 5120, "linear_conv_kernel_dim": 4,
    "linear_key_head_dim": 128, "linear_num_key_heads": 16, "linear_num_value_heads": 32, "linear_value_head_dim": 128,
    "max_position_embeddings": 262144, "moe_intermediate_size": 512, "num_attention_heads": 16, "num_experts": 512,
    "num_experts_per_tok": 10, "num_hidden_layers": 48, "num_key_value_heads": 2, "decoder_sparse_step": 1,
    "shared_expert_intermediate_size": 512, "tie_word_embeddings": False, "vocab_size": 151936,
}  # fmt: skip


def gigabytes(config: dict[str, Any]) -> float:
    return sizes(config, computed_tensors(shape_of(config))).weight_bytes / 1e9


@pytest.mark.parametrize(
    ("config", "published"),
    [
        (OSS, 65.2),  # the files of gpt-oss-120b
        ({**PLAIN, "quantization_config": NVIDIA}, 394),  # recipes of vLLM: at least 403 GB of GPU memory
        ({**QWEN, "quantization_config": AWQ}, 19.3),  # files of Qwen3-32B-AWQ
        ({**QWEN, "quantization_config": GPTQ}, 34.3),
        (NEXT, 159),  # 79.7 billion parameters in bf16
    ],
)  # fmt: skip
def test_quantised_weights_have_the_published_size(config: dict[str, Any], published: float) -> None:
    assert gigabytes(config) == pytest.approx(published, rel=0.02)


@pytest.mark.parametrize(
    "quantised",
    [{}, {"quant_method": "quip"}, {"quant_method": "modelopt", "quant_algo": "MIXED_PRECISION"}, "fp8",
     {"quant_method": "compressed-tensors", "config_groups": {"a": {"weights": {"num_bits": 4, "group_size": 32}},
                                                              "b": {"weights": {"num_bits": 8}}}}],
)  # fmt: skip
def test_unknown_quantisation_is_never_counted_as_bf16(quantised: Any) -> None:
    with pytest.raises(UserError, match="the bytes of quantisation .* are not known"):
        shape_of({**QWEN, "quantization_config": quantised})


def test_an_ignored_module_keeps_its_precision() -> None:
    config = {"quantization_config": {**INT4, "ignore": [*INT4["ignore"], "model.layers.3.", "gate"]}}
    found = quantisation_of(config)
    assert found
    assert found.format_of("model.layers.4.mlp.experts.7.up_proj") == Format(4, 32, 16)
    for name in ("layers.4.self_attn.q_proj", "layers.4.mlp.shared_experts.up_proj", "layers.3.mlp.up_proj",
                 "layers.4.mlp.gate"):  # fmt: skip
        assert found.format_of(f"model.{name}") is None


def test_four_bits_for_experts_alone() -> None:
    found = quantisation_of({"quantization_config": {"quant_method": "fp8", "weight_block_size": [128, 128]}}, "fp4")
    assert found
    assert found.format_of("model.layers.0.mlp.experts.0.up_proj") == MXFP4
    assert found.format_of("model.layers.0.self_attn.q_a_proj") == Format(8, 128, 32, square=True)
    assert (NVFP4.weight_bytes(16, 32), NVFP4.scale_bytes(16, 32)) == (256, 32)


def test_an_expensive_expression_of_a_file_is_left_out() -> None:
    quantised = {**INT4, "ignore": ["re:(a+)+$", "re:.*self_attn.*"]}
    found = quantisation_of({"quantization_config": quantised})
    assert found and found.ignored == ("re:.*self_attn.*",)


def test_a_window_and_a_state_do_not_grow_with_the_text() -> None:
    window, linear = (sizes(each, computed_tensors(shape_of(each))) for each in (OSS, NEXT))
    assert (window.cache_bytes_per_token, window.window_bytes_per_token, window.window_tokens) == (36864, 36864, 128)
    assert linear.cache_bytes_per_token == 12 * 2 * 2 * 256 * 2  # every fourth of 48 layers
    assert linear.text_bytes == 36 * (32 * 128 * 128 * 4 + 3 * (2 * 16 * 128 + 32 * 128) * 2)
    gpus = Gpus(reported_bytes(80 * 10**9), 8)
    layout = best_fit(window, gpus, Load(4096, 4), Wish(tensor_parallel=4)).layout
    short, long = (memory(window, layout, Load(tokens, 4))[0].cache for tokens in (4096, 8192))
    assert long - short == 4 * 4096 * 36864 // 4
    assert parse_sizes(window.as_data()) == window


def test_sizes_of_earlier_versions_have_no_window() -> None:
    data = sizes(QWEN, computed_tensors(shape_of(QWEN))).as_data()
    earlier = {name: value for name, value in data.items() if "window" not in name and name != "text_bytes"}
    assert parse_sizes(earlier) == parse_sizes(data)


def test_compressed_attention_has_an_entry_for_several_tokens() -> None:
    compressed = {"head_dim": 512, "compress_ratios": [0, 4, 128], "index_head_dim": 128, "sliding_window": 128}
    config = {**PLAIN, **compressed, "model_type": "deepseek_v4", "num_hidden_layers": 3, "kv_lora_rank": None}
    found = sizes(config, computed_tensors(shape_of(config)))
    assert found.cache_bytes_per_token == round((1024 + 132) / 4 + 1024 / 128)
    assert found.window_bytes_per_token == 3 * 1024


def test_compressed_attention_is_the_same_as_transformers_writes_it() -> None:
    compressed = {"head_dim": 512, "index_head_dim": 128, "sliding_window": 128, "kv_lora_rank": None}
    config = {**PLAIN, **compressed, "model_type": "deepseek_v4", "num_hidden_layers": 3}
    kinds = ["sliding_attention", "compressed_sparse_attention", "heavily_compressed_attention"]
    saved = {"layer_types": kinds, "compress_rates": {kinds[1]: 4, kinds[2]: 128}}
    forms = ({**config, "compress_ratios": [0, 4, 128]}, {**config, **saved})
    first, second = (sizes(each, computed_tensors(shape_of(each))) for each in forms)
    assert first == second
    with pytest.raises(UserError, match="the cache of layers of 'deepseek_v4' is not known"):
        shape_of({**config, **saved, "layer_types": [*kinds[:2], "other"]})


@pytest.mark.parametrize("kind", ["deepseek_sparse_attention", "indexed_attention"])
def test_sparse_attention_has_two_names(kind: str) -> None:
    layers = PLAIN["num_hidden_layers"]
    index = {"index_n_heads": 64, "index_head_dim": 128, "model_type": "deepseek_v32"}
    config = {**PLAIN, **index, "layer_types": [kind] * layers}
    saved = {name: value for name, value in config.items() if name != "first_k_dense_replace"}
    tensors = computed_tensors(shape_of(config))
    dense = ["dense"] * 3 + ["sparse"] * (layers - 3)
    assert computed_tensors(shape_of({**saved, "mlp_layer_types": dense})) == tensors
    assert sizes(config, tensors).cache_bytes_per_token == layers * (576 * 2 + 132)
    with pytest.raises(UserError, match="the cache of layers of 'qwen3' is not known"):
        shape_of({**QWEN, "layer_types": [kind] * QWEN["num_hidden_layers"]})


@pytest.mark.parametrize(
    "more",
    [
        {"model_type": "gemma4_text"},
        {"model_type": "mimo_v2_flash"},
        {"per_layer_config": {"3": {"head_dim": 512}}},
        {"global_head_dim": 512},
        {"num_global_key_value_heads": 2},
        {"swa_num_key_value_heads": 8},
    ],
)
def test_layers_of_several_widths_have_an_unknown_cache(more: dict[str, Any]) -> None:
    with pytest.raises(UserError, match="layers differ in the width of their keys and values"):
        shape_of({**QWEN, **more})


def test_states_of_other_models_are_no_gated_delta_net() -> None:
    kinds = ["linear_attention"] * QWEN["num_hidden_layers"]
    with pytest.raises(UserError, match="the cache of layers of 'qwen3' is not known"):
        shape_of({**QWEN, "layer_types": kinds})


@pytest.mark.parametrize("name", ["k_proj", "v_proj", "o_proj"])
def test_weights_of_another_width_than_declared_have_an_unknown_cache(name: str) -> None:
    """A class of a model has defaults that its config.json leaves out."""
    tensors = computed_tensors(shape_of(QWEN))
    place = f"model.layers.3.self_attn.{name}.weight"
    with pytest.raises(UserError, match="keys or values of another width than config.json declares"):
        sizes(QWEN, {**tensors, place: 2 * tensors[place]})
