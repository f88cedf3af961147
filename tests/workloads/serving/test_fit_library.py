"""The parts of a model that its config.json leaves to transformers: towers are counted, defaults are known."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from workloads.catalogue.models import model_config
from workloads.errors import UserError
from workloads.serving.fit import computed_sizes, computed_tensors, library, sizes
from workloads.serving.fit.__main__ import main
from workloads.serving.fit.shape import shape_of

TEXT = {
    "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 4, "num_attention_heads": 4, "head_dim": 16,
    "num_key_value_heads": 2, "vocab_size": 320, "max_position_embeddings": 512,
}  # fmt: skip
LINEAR = {
    "linear_num_key_heads": 2, "linear_num_value_heads": 4, "linear_key_head_dim": 16, "linear_value_head_dim": 16,
    "linear_conv_kernel_dim": 4, "full_attention_interval": 4, "attn_output_gate": True,
}  # fmt: skip
QWEN = {"depth": 6, "hidden_size": 32, "intermediate_size": 64, "num_heads": 2, "out_hidden_size": 64, "patch_size": 4}
MULTIMODAL: dict[str, dict[str, Any]] = {
    "llama4": {
        "text_config": {**TEXT, "model_type": "llama4_text", "intermediate_size_mlp": 128, "num_local_experts": 4,
                        "num_experts_per_tok": 1, "interleave_moe_layer_step": 1, "attention_chunk_size": 64},
        "vision_config": {"model_type": "llama4_vision_model", "hidden_size": 32, "intermediate_size": 128,
                          "num_hidden_layers": 6, "num_attention_heads": 2, "image_size": 28, "patch_size": 14,
                          "projector_input_dim": 32, "projector_output_dim": 32, "vision_output_dim": 32},
    },
    "mistral3": {
        "text_config": {**TEXT, "model_type": "mistral"},
        "vision_config": {"model_type": "pixtral", "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 6,
                          "num_attention_heads": 2, "head_dim": 16, "image_size": 28, "patch_size": 14},
    },
    "qwen3_5": {"text_config": {**TEXT, **LINEAR, "model_type": "qwen3_5_text"}, "vision_config": QWEN},
}  # fmt: skip


def config(model_type: str) -> dict[str, Any]:
    return {"model_type": model_type, "dtype": "bfloat16", "tie_word_embeddings": False, **MULTIMODAL[model_type]}


@pytest.mark.parametrize("model_type", MULTIMODAL)
def test_the_bytes_of_a_multimodal_model_are_those_that_transformers_makes(model_type: str) -> None:
    import torch
    from transformers import CONFIG_MAPPING, AutoModelForMultimodalLM

    with torch.device("meta"):
        model = AutoModelForMultimodalLM.from_config(CONFIG_MAPPING[model_type].from_dict(config(model_type)))
    found = computed_sizes(config(model_type))
    language = {**config(model_type)["text_config"], "dtype": "bfloat16", "tie_word_embeddings": False}
    # rounded: transformers and files differ in small vectors, such as those of norms
    assert found.weight_bytes == pytest.approx(2 * sum(each.numel() for each in model.parameters()), rel=0.005)
    assert found.weight_bytes > 1.1 * computed_sizes(language).weight_bytes
    assert found.layer_bytes == computed_sizes(language).layer_bytes, "a tower is in no layer of the language model"


@pytest.mark.parametrize(
    ("model_type", "layers"),
    [
        ("qwen3_moe", {"mlp_only_layers": [0, 2], "decoder_sparse_step": 1}),
        ("qwen3_moe", {"mlp_only_layers": [1], "decoder_sparse_step": 2}),
        ("qwen3_moe", {"mlp_only_layers": [], "decoder_sparse_step": 1}),
        ("llama4_text", {"moe_layers": [1, 3], "interleave_moe_layer_step": 1}),
        ("llama4_text", {"moe_layers": [0], "interleave_moe_layer_step": 2}),
    ],
)
def test_layers_without_experts_are_those_of_transformers(model_type: str, layers: dict[str, Any]) -> None:
    """
    Before, all layers had experts, and the sizes were up to 78 % too large.
    """
    import torch
    from transformers import CONFIG_MAPPING, AutoModelForCausalLM

    experts: dict[str, Any] = {"num_experts": 4, "moe_intermediate_size": 96}
    if model_type == "llama4_text":
        experts = {"num_local_experts": 4, "intermediate_size_mlp": 96, "attention_chunk_size": 64}
    values = {**TEXT, **experts, **layers, "num_experts_per_tok": 1}
    settings = {**values, "model_type": model_type, "dtype": "bfloat16", "tie_word_embeddings": False}
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(CONFIG_MAPPING[model_type].from_dict(settings))
    weights = sum(each.numel() for each in model.parameters())
    assert computed_sizes(settings).weight_bytes == pytest.approx(2 * weights, rel=0.005)


def test_a_head_below_a_prefix_is_no_embedding() -> None:
    """
    The names of Llama 4 and others with towers. Before, the model counted as one with tied embeddings.
    """
    plain = {"model_type": "llama", **TEXT, "dtype": "bfloat16", "tie_word_embeddings": False}
    tensors = computed_tensors(shape_of(plain))
    found = [sizes(plain, {f"{prefix}{name}": size for name, size in tensors.items()})
             for prefix in ("", "language_model.")]  # fmt: skip
    assert found[0] == found[1] and not found[1].tied


def test_layers_of_a_tower_in_files_are_no_layers_of_the_language_model() -> None:
    tensors = {
        "language_model.model.layers.0.mlp.up_proj.weight": 100,
        "vision_tower.transformer.layers.0.feed_forward.up_proj.weight": 10,
        "vision_tower.transformer.layers.5.feed_forward.up_proj.weight": 1,
    }
    found = sizes(config("mistral3"), tensors)
    assert (found.layer_bytes[0], found.embedding_bytes, found.draft_bytes) == (100, 11, 0)


def test_towers_that_cannot_be_counted_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match=r"'own' beside its language model cannot be computed .* KeyError"):
        computed_sizes({**config("mistral3"), "model_type": "own"})
    deep = config("mistral3")
    deep["vision_config"] = {**deep["vision_config"], "num_hidden_layers": 10**6}
    with pytest.raises(UserError, match="num_hidden_layers: 1000000 is more than a model is built with; at most 1000"):
        computed_sizes(deep)
    monkeypatch.setattr(library, "is_here", lambda: False)
    with pytest.raises(UserError, match=r"this Python has no transformers\).*rackwright toolchain workloads"):
        computed_sizes(config("mistral3"))
    assert computed_sizes(model_config("qwen3-32b")).weight_bytes > 0, "a model of text alone needs no transformers"


@pytest.mark.parametrize("model_type", ["gemma3n", "gemma4", "phi4_multimodal"])
def test_sizes_in_names_with_layers_are_no_numbers_of_layers(model_type: str) -> None:
    """
    Before, `vocab_size_per_layer_input` and `depthwise_separable_out_channel` were refused as more than 1,000 layers.
    """
    from transformers import CONFIG_MAPPING

    published = json.loads(CONFIG_MAPPING[model_type]().to_json_string(use_diff=False))
    assert library.defaults(published)["num_hidden_layers"] > 0


GEMMA = {
    "model_type": "gemma3", "torch_dtype": "bfloat16",
    "text_config": {"model_type": "gemma3_text", "hidden_size": 2560, "num_hidden_layers": 34, "sliding_window": 1024},
    "vision_config": {"model_type": "siglip_vision_model", "hidden_size": 32},
}  # fmt: skip


def test_values_that_a_published_config_leaves_out_are_those_of_its_class() -> None:
    shape = shape_of(GEMMA)
    assert (shape.vocabulary, shape.context_tokens, shape.window) == (262208, 131072, 1024)
    assert (shape.heads, shape.key_value_heads, shape.head_width) == (8, 4, 256)
    assert shape.kinds.count("full_attention") == 5, "one of six layers"


def test_a_missing_value_names_the_file_and_the_remedy(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(library, "is_here", lambda: False)
    path = tmp_path / "gemma.json"
    path.write_text(json.dumps(GEMMA))
    assert main([str(path), "--gpu", "h200"]) == 2
    message = capsys.readouterr().err
    assert f"{path}, vocab_size: the file has no vocab_size, and no default of 'gemma3_text' is known here" in message
    assert re.search(r"Add vocab_size to config.json, or run it with .* `rackwright toolchain workloads`", message)
