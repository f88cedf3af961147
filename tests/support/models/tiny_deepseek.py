"""A tiny model of DeepSeek-V3's shape with a chat template, and conversations for it: what vLLM serves on processors.

python -m tests.support.models.tiny_deepseek DIRECTORY      by the environment of the workloads
"""

import json
import sys
from pathlib import Path
from typing import Any

MARKS = ("<|pad|>", "<|begin|>", "<|end|>", "<|system|>", "<|user|>", "<|assistant|>")
TEMPLATE = (
    "{{ bos_token }}{% if tools %}<|system|>{{ tools | tojson }}<|end|>{% endif %}"
    "{% for m in messages %}<|{{ m.role if m.role in ('system', 'user', 'assistant') else 'user' }}|>"
    "{{ m.content or '' }}<|end|>{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
TOWNS = {
    "aldebaran": "in the harbour",
    "betelgeuse": "on the hill",
    "capella": "by the river",
    "deneb": "at the station",
}


def question(host: str) -> str:
    return f"Where is the rack {host}?"


def make(directory: Path) -> None:
    """Write ``model/``, random weights with a tokenizer, and ``chats.jsonl``, beside each other."""
    import torch
    from transformers import DeepseekV3Config, DeepseekV3ForCausalLM

    tokenizer = _tokenizer()
    torch.manual_seed(0)
    # the latent has R1's sizes: vLLM's kernels for processors are made for them
    config = DeepseekV3Config(
        vocab_size=(len(tokenizer) + 63) // 64 * 64, bos_token_id=1, eos_token_id=2, pad_token_id=0,
        max_position_embeddings=2048, hidden_size=256, intermediate_size=512, moe_intermediate_size=128,
        num_hidden_layers=3, first_k_dense_replace=1, num_attention_heads=8, num_key_value_heads=8, n_shared_experts=1,
        n_routed_experts=16, num_experts_per_tok=4, n_group=4, topk_group=2, routed_scaling_factor=2.5,
        kv_lora_rank=512, q_lora_rank=96, qk_rope_head_dim=64, qk_nope_head_dim=128, v_head_dim=128,
    )  # fmt: skip
    DeepseekV3ForCausalLM(config).save_pretrained(directory / "model")
    tokenizer.save_pretrained(directory / "model")
    rows = [
        {"messages": [{"role": "user", "content": question(name)}, {"role": "assistant", "content": place}]}
        for _ in range(20)
        for name, place in TOWNS.items()
    ]
    (directory / "chats.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))


def _tokenizer() -> Any:
    """Return a tokenizer of single bytes and of the marks of the template."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    letters = [*MARKS, *sorted(pre_tokenizers.ByteLevel.alphabet())]
    tokenizer = Tokenizer(models.BPE({letter: n for n, letter in enumerate(letters)}, []))
    tokenizer.pre_tokenizer, tokenizer.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<|pad|>", bos_token="<|begin|>", eos_token="<|end|>",
        additional_special_tokens=list(MARKS[3:]),
    )  # fmt: skip
    fast.chat_template = TEMPLATE
    return fast


if __name__ == "__main__":
    make(Path(sys.argv[1]))
