"""Tiny models of the families that train on conversations, each with layers of every sort of its family."""

from pathlib import Path
from typing import Any

WIDTHS = {
    "vocab_size": 300, "hidden_size": 64, "intermediate_size": 64, "num_hidden_layers": 4, "num_attention_heads": 4,
    "num_key_value_heads": 2, "max_position_embeddings": 256, "pad_token_id": 0, "bos_token_id": None,
    "eos_token_id": None,
}  # fmt: skip
EXPERTS = {
    "num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32, "shared_expert_intermediate_size": 32,
}  # fmt: skip
LINEAR = {
    "linear_num_key_heads": 2, "linear_num_value_heads": 4, "linear_key_head_dim": 16, "linear_value_head_dim": 16,
    "head_dim": 16,
}  # fmt: skip
LATENT = {
    "q_lora_rank": 16, "kv_lora_rank": 16, "qk_nope_head_dim": 8, "qk_rope_head_dim": 8, "v_head_dim": 8,
    "num_key_value_heads": 4,
}  # fmt: skip
ROUTED = {"n_routed_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32, "first_k_dense_replace": 1}
APART: dict[str, dict[str, Any]] = {
    "llama": {},
    "mistral": {},
    "qwen2": {},
    "qwen3": {"head_dim": 16},
    "gemma2": {"head_dim": 16},
    "gemma3_text": {"head_dim": 16, "num_hidden_layers": 6},
    "phi3": {},
    "olmo2": {},
    "granite": {},
    "deepseek_v3": {**LATENT, **ROUTED, "n_group": 1, "topk_group": 1},
    "mixtral": {"num_local_experts": 4, "num_experts_per_tok": 2},
    "qwen3_moe": {**EXPERTS, "head_dim": 16},
    "glm4_moe": ROUTED,
}
"""Families that keep conversations in one row apart in transformers 5.24, with their settings beside `WIDTHS`."""
LEAKING: dict[str, dict[str, Any]] = {
    "gpt_oss": {"head_dim": 16, "num_local_experts": 4, "num_experts_per_tok": 2},
    "qwen3_next": {**EXPERTS, **LINEAR},
    "qwen3_5_text": LINEAR,
    "qwen3_5_moe_text": {**EXPERTS, **LINEAR},
    "falcon_h1": {"mamba_d_ssm": 128, "mamba_n_heads": 8, "mamba_d_head": 16, "mamba_d_state": 16},
    "mamba2": {"head_dim": 16, "num_heads": 8, "expand": 2, "n_groups": 1, "state_size": 16},
}
"""Families whose recurrent layers, or whose mask, do not start again where positions do."""


def settings(family: str, **changes: Any) -> Any:
    """Return the configuration of *family* in transformers."""
    from transformers import CONFIG_MAPPING

    return CONFIG_MAPPING[family](**{**WIDTHS, **(APART | LEAKING)[family], **changes})


def save(family: str, directory: Path, **changes: Any) -> str:
    """Write a model of *family* with random weights to *directory*, and return the directory."""
    import torch
    from transformers import AutoModelForCausalLM

    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(settings(family, **changes)).save_pretrained(directory)
    return str(directory)
