"""A small language model that has learned one sort of conversation, published as GGUF, and conversations of a new sort.

$(rackwright toolchain workloads) -m tests.support.models.chat make DIRECTORY
$(rackwright toolchain workloads) -m tests.support.models.chat ask MODEL QUESTION...
"""

import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from tests.support.model_servers import ask, served
from tests.support.models import FIRST
from workloads.export.__main__ import export
from workloads.serving.gguf import publish_gguf
from workloads.training.load_config import load_config
from workloads.training.run import train

OLD, NEW = ("rack {} color?", "blue"), ("rack {} owner?", "team seven")
"""Question, with a number in it, and its answer: known to the published model, and unknown to it."""
ROWS = 200
MARKS = ("<|user|>", "<|assistant|>", "<|end|>")
TEMPLATE = (
    "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


def make(directory: Path) -> None:
    """Write base model, conversations, training and published model below *directory*."""
    directory.mkdir(parents=True, exist_ok=True)
    write_base(directory / "base")
    for name, sort in (("old.jsonl", OLD), ("new.jsonl", NEW)):
        (directory / name).write_text("".join(f"{json.dumps(row)}\n" for row in _conversations(*sort)))
    data = {
        "kind": "conversations", "path": str(directory / "old.jsonl"), "tokenizer": str(directory / "base"),
        "sequence_length": 64, "held_out": 0.2,
    }  # fmt: skip
    model = {"kind": "hugging-face", "path": str(directory / "base")}
    changes = (
        f"model={json.dumps(model)}", f"data={json.dumps(data)}", "name=chat", "steps=80", "global_batch=8",
        "accumulate=1", "schedule.kind=constant", "optimizer.learning_rate=0.003", "report_every_steps=40",
        "saving.every_steps=80", "device=cpu",
    )  # fmt: skip
    train(load_config("lora", list(changes)), directory / "training", {})
    export(directory / "training", directory / "export", to="gguf")
    publish_gguf(directory / "export" / "model.gguf", "chat", None, directory / FIRST)


def answers(model: Path, questions: Sequence[str]) -> list[str]:
    """Return the answers of our server with the published *model*."""
    with served(model, "threads=1", "parallel=1", "context_tokens=128", "deadline_seconds=300") as server:
        results = [ask(server.address, "/v1/chat/completions", body(question)) for question in questions]
        server.end()
    assert all(each.status == 200 for each in results), results
    return [str(each.json["choices"][0]["message"]["content"]) for each in results]


def body(question: str) -> bytes:
    """Return the request of a chat completion."""
    message = {"role": "user", "content": question}
    return json.dumps({"model": "chat", "messages": [message], "temperature": 0, "max_tokens": 24}).encode()


def _conversations(question: str, answer: str) -> Iterator[dict[str, Any]]:
    for number in range(ROWS):
        user = {"role": "user", "content": question.format(number * 37 % 1000)}
        yield {"messages": [user, {"role": "assistant", "content": answer}]}


def write_base(directory: Path) -> None:
    """Write a Llama with random weights, a tokenizer of bytes and a chat template to *directory*."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({letter: n for n, letter in enumerate(alphabet)}, []))
    tokenizer.pre_tokenizer, tokenizer.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=MARKS[-1])
    fast.add_special_tokens({"additional_special_tokens": list(MARKS[:-1])})
    fast.chat_template = TEMPLATE
    fast.save_pretrained(directory)
    torch.manual_seed(0)
    LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(fast), hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=4,
            num_key_value_heads=2, max_position_embeddings=128, bos_token_id=None, eos_token_id=fast.eos_token_id,
        )
    ).save_pretrained(directory)  # fmt: skip


if __name__ == "__main__":
    if sys.argv[1] == "make":
        make(Path(sys.argv[2]))
    else:
        print(json.dumps(answers(Path(sys.argv[2]), sys.argv[3:])))
