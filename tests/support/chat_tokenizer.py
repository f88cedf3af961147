"""A tokenizer of single bytes with a chat template, and files of rows, for trainings on conversations."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, PreTrainedTokenizerFast

PROMPT = "{% if add_generation_prompt %}<|assistant|>{% endif %}"
PLAIN = "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}<|end|>{% endfor %}" + PROMPT
FORGETS_REASONING = (
    "{% for m in messages %}<|{{ m.role }}|>{% if m.reasoning and loop.last %}({{ m.reasoning }}){% endif %}"
    "{{ m.content }}<|end|>{% endfor %}" + PROMPT
)
LLAMA = LlamaConfig(
    vocab_size=300, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
    num_key_value_heads=2, max_position_embeddings=64,
)  # fmt: skip
"""A model for the tokens of `bytes_tokenizer`."""


def bytes_tokenizer(template: str = PLAIN) -> PreTrainedTokenizerFast:
    """Return a tokenizer of single bytes and of the marks of *template*."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({letter: n for n, letter in enumerate(alphabet)}, []))
    tokenizer.pre_tokenizer, tokenizer.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer)
    fast.add_special_tokens({"additional_special_tokens": ["<|system|>", "<|user|>", "<|assistant|>", "<|end|>"]})
    fast.chat_template = template
    return fast


def write_rows(path: Path, rows: Sequence[Any]) -> str:
    """Write *rows* to *path* as JSON Lines, texts as they are, and return the path."""
    path.write_text("".join(f"{row if isinstance(row, str) else json.dumps(row)}\n" for row in rows))
    return str(path)
