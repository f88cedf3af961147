"""Tiny mixtures of experts of each architecture that transformers has, from the fields of its configuration class."""

import inspect
import re
from collections.abc import Iterator
from dataclasses import fields
from functools import cache
from pathlib import Path
from typing import Any

from tests.support import families

COMMON = {
    **families.WIDTHS, **families.LINEAR, **families.LATENT, **families.EXPERTS, "num_key_value_heads": 2,
    "num_local_experts": 4, "n_routed_experts": 4, "moe_num_experts": 4, "moe_k": 2, "moe_topk": 2, "top_k_experts": 2,
    "n_shared_experts": 1, "n_group": 1, "topk_group": 1, "vocab_size_per_layer_input": 300, "ffn_hidden_size": 64,
    "hidden_size_per_layer_input": 16, "num_layers": 2, "expert_ffn_hidden_size": 32, "zero_expert_num": 2,
    "num_dense_layers": 1,
}  # fmt: skip
"""Values of fields that several architectures have."""
OWN: dict[str, dict[str, Any]] = {
    "doge": {"is_moe": True, "num_experts": 16},
    "gemma4_text": {"enable_moe_block": True},
    "lfm2_moe": {"layer_types": ["conv", "full_attention"] * 2},
    "longcat_flash": {"head_dim": 8},
    "zaya": {"num_experts_per_tok": 1},
}
"""Values of one architecture."""
UNTRIED = {
    "qwen4_exp_text": "tables of n-grams with fixed sizes of gigabytes",
    "dbrx": "its configuration cannot be made in transformers 5.24: the attention has no rope_theta",
}
"""Architectures without a tiny model, each with the reason."""


@cache
def architectures() -> tuple[str, ...]:
    """Return the types of causal language models with routers or experts; a multimodal type is that of its text."""
    from transformers import CONFIG_MAPPING
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    names = [name for name in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES if name in CONFIG_MAPPING]
    return tuple(name for name in sorted(names) if name not in UNTRIED and _is_mixture(CONFIG_MAPPING[name]))


def _is_mixture(kind: type) -> bool:
    configuration = Path(inspect.getfile(kind))
    source = configuration.with_name(configuration.name.replace("configuration_", "modeling_"))
    text = source.read_text() if source.exists() else ""
    is_mixture = re.search(r'"router_logits": |^class \w+Experts\(', text, re.MULTILINE) is not None
    return is_mixture and not {"text_config", "thinker_config"} & set(_fields(kind))


def _fields(kind: Any) -> Iterator[str]:
    yield from (field.name for field in fields(kind))
    yield from kind.attribute_map


def settings(architecture: str) -> Any:
    """Return the configuration of a tiny model of *architecture*."""
    from transformers import CONFIG_MAPPING

    kind = CONFIG_MAPPING[architecture]
    names = set(_fields(kind))
    values = {name: value for name, value in COMMON.items() if name in names}
    values = {name: value for name, value in values.items() if kind.attribute_map.get(name) not in values}
    if "kv_lora_rank" in values:
        values["num_key_value_heads"] = values["num_attention_heads"]
    return kind(**{**values, **OWN.get(architecture, {})})
