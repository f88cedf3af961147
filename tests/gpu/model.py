"""Language models with random weights, of the size that suits a GPU."""

import json
from pathlib import Path
from typing import Any

import torch

SIZES: dict[str, dict[str, int]] = {
    "1.2B": {
        "vocab_size": 128_256, "hidden_size": 2048, "intermediate_size": 8192, "num_hidden_layers": 16,
        "num_attention_heads": 32, "num_key_value_heads": 8,
    },
    "0.3B": {
        "vocab_size": 32_768, "hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 16,
        "num_attention_heads": 16, "num_key_value_heads": 8,
    },
    "2M": {
        "vocab_size": 256, "hidden_size": 128, "intermediate_size": 512, "num_hidden_layers": 8,
        "num_attention_heads": 4, "num_key_value_heads": 2,
    },
    "tiny": {
        "vocab_size": 256, "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2,
        "num_attention_heads": 2, "num_key_value_heads": 1,
    },
}  # fmt: skip
"""Shapes by their number of parameters; the first is that of Llama 3.2 1B."""
BYTES_PER_PARAMETER = 24
"""Weights, gradients and moments in fp32, and half as much for activations."""


def size_for(memory: int) -> str:
    """Return the largest size that a GPU with *memory* bytes can train."""
    parameters = {"1.2B": 1.24e9, "0.3B": 0.29e9, "2M": 2e6}
    return next(name for name, count in parameters.items() if count * BYTES_PER_PARAMETER < memory or name == "2M")


def write(directory: Path, size: str, device: str, length: int) -> None:
    """Write a Llama model with random weights in bf16, and a text of bytes, to *directory*."""
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    config = LlamaConfig(**SIZES[size], max_position_embeddings=max(length, 2048), tie_word_embeddings=True)
    with torch.device(device):
        model: Any = LlamaForCausalLM(config).to(torch.bfloat16)
    model.save_pretrained(directory)
    (directory / "text.txt").write_bytes(bytes(range(256)) * (32 * length // 256 * 4 + 16))


def training_changes(directory: Path, precision: str, batch: int, length: int, *more: str) -> list[str]:
    """Return the changes of recipe ``lora`` that train all weights of the model in *directory*, sharded."""
    model = {"kind": "hugging-face", "path": str(directory), "lora": None}
    text = {"kind": "text", "path": str(directory / "text.txt"), "sequence_length": length}
    return [
        f"model={json.dumps(model)}", f"data={json.dumps(text)}", f"global_batch={batch}", "accumulate=1",
        f"precision={precision}", "sharding=full", "steps=1000000", "report_every_steps=1000000",
        "saving.every_steps=1000000", "optimizer.learning_rate=1e-4", "schedule.kind=constant",
        "schedule.warmup_steps=0", *more,
    ]  # fmt: skip
