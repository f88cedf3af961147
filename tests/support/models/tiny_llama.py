"""A language model of 3 million random weights and an adapter of it, in Hugging Face's form: for vLLM on a processor.

python -m tests.support.models.tiny_llama DIRECTORY      writes DIRECTORY/tiny and DIRECTORY/adapted
"""

import json
import sys
import sysconfig
from pathlib import Path

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from tests.support.models.protocol_cases import ADAPTER, MODEL

VOCABULARY, FILES, RANK = 2048, 80, 8
TARGETS = ("q_proj", "v_proj")
MARKS = ("<|pad|>", "<|begin|>", "<|end|>", "<|system|>", "<|user|>", "<|assistant|>")
TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}"
    "{% if message.role in ('system', 'assistant') %}<|{{ message.role }}|>{% else %}<|user|>{% endif %}"
    "{{ message.content or '' }}<|end|>{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


def make(directory: Path) -> None:
    """Write the model and the adapter below *directory*."""
    torch.manual_seed(0)
    tokenizer = _tokenizer()
    config = LlamaConfig(
        vocab_size=VOCABULARY, hidden_size=256, intermediate_size=512, num_hidden_layers=4, num_attention_heads=8,
        num_key_value_heads=4, max_position_embeddings=2048, bos_token_id=1, eos_token_id=2, pad_token_id=0,
    )  # fmt: skip
    model = LlamaForCausalLM(config).to(torch.bfloat16)
    model.save_pretrained(directory / MODEL)
    tokenizer.save_pretrained(directory / MODEL)
    _save_adapter(model, directory / ADAPTER)


def _save_adapter(model: LlamaForCausalLM, directory: Path) -> None:
    """Write an adapter of *model* in PEFT's form. Source: PEFT's documentation, "Checkpoint format"."""
    weights = {}
    for name, module in model.named_modules():
        if name.endswith(TARGETS):
            key = f"base_model.model.{name}"
            weights[f"{key}.lora_A.weight"] = torch.randn(RANK, module.in_features)
            weights[f"{key}.lora_B.weight"] = torch.randn(module.out_features, RANK) * 0.3
    directory.mkdir()
    save_file(weights, directory / "adapter_model.safetensors")
    config = {"peft_type": "LORA", "task_type": "CAUSAL_LM", "r": RANK, "lora_alpha": RANK, "bias": "none",
              "target_modules": list(TARGETS)}  # fmt: skip
    (directory / "adapter_config.json").write_text(json.dumps(config))


def _tokenizer() -> PreTrainedTokenizerFast:
    """Return a tokenizer that is trained on Python's own library."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=VOCABULARY, special_tokens=list(MARKS), initial_alphabet=alphabet)
    library = sorted(Path(sysconfig.get_paths()["stdlib"]).glob("*.py"))[:FILES]
    tokenizer.train_from_iterator((each.read_text(errors="ignore") for each in library), trainer)
    pad, begin, end, *_ = MARKS
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token=pad, bos_token=begin, eos_token=end, chat_template=TEMPLATE
    )


if __name__ == "__main__":
    make(Path(sys.argv[1]))
