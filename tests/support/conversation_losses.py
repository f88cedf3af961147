"""The loss of conversations as runs compute it, against plain transformers, one conversation at a time.

python -m tests.support.conversation_losses DIRECTORY      prints a JSON line for each family of models
"""

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F

from tests.support import families
from tests.support.chat_templates import conversations, tokenizer
from tests.support.chat_tokenizer import write_rows
from workloads.training import data, isolation
from workloads.training.config import Conversations, HuggingFace
from workloads.training.models import LanguageModel, load_hugging_face
from workloads.training.objective import Batch, CrossEntropy

LENGTH = 384
ANSWER = re.compile(r"(?<=<\|im_start\|>assistant\n).*?<\|im_end\|>", re.DOTALL)
"""An answer with its end, in ChatML."""


def rows() -> list[dict[str, Any]]:
    """Return 20 conversations of one to four turns, with and without a system message and thoughts in the content."""
    found = [row for _, row in conversations("qwen2.5")]
    return [{"messages": [each for each in row["messages"] if "tool_calls" not in each and each["role"] != "tool"]}
            for row in found]  # fmt: skip


def plain(model: Any, given: Any) -> tuple[float, int]:
    """Return the sum of the losses of all answers, and their number of tokens, by transformers alone."""
    total, answers = 0.0, 0
    for row in rows():
        text = given.apply_chat_template(row["messages"], tokenize=False)
        tokens: list[int] = []
        learned: list[bool] = []
        for piece, is_answer in _pieces(text):
            own = given(piece, add_special_tokens=False)["input_ids"]
            tokens += own
            learned += [is_answer] * len(own)
        assert tokens == given(text, add_special_tokens=False)["input_ids"]
        logits = model(input_ids=torch.tensor([tokens[:-1]]), use_cache=False).logits[0].float()
        mask = torch.tensor(learned[1:])
        total += float(F.cross_entropy(logits[mask], torch.tensor(tokens[1:])[mask], reduction="sum"))
        answers += int(mask.sum())
    return total, answers


def _pieces(text: str) -> Iterator[tuple[str, bool]]:
    """Yield the parts of *text*, and whether each is an answer."""
    place = 0
    for match in ANSWER.finditer(text):
        yield text[place : match.start()], False
        yield match[0], True
        place = match.end()
    yield text[place:], False


def own(model: LanguageModel, config: Conversations, packed: bool) -> tuple[float, int, int]:
    """Return the sum of the losses, the number of answers, and that of examples, as a run has them."""
    examples = data.load(config.model_copy(update={"packed": packed}))
    total, answers = 0.0, 0
    for batch in torch.arange(len(examples)).split(4):
        x, y = examples.take(batch)
        total += float(CrossEntropy().forward(model, Batch(x, y), counting=False)[0])
        answers += int(data.count_answers(y))
    return total, answers, len(examples)


def main(directory: Path) -> None:
    torch.set_num_threads(1)
    given = tokenizer("qwen2.5")
    given.save_pretrained(directory / "tokenizer")
    path = write_rows(directory / "rows.jsonl", rows())
    config = Conversations(path=path, tokenizer=str(directory / "tokenizer"), sequence_length=LENGTH, held_out=0.0)
    for family in (*families.APART, *families.LEAKING):
        where = families.save(family, directory / family, max_position_embeddings=1024)
        proof = isolation.measure(HuggingFace(path=where), LENGTH, torch.device("cpu"))
        model = load_hugging_face(where).eval()
        isolation.draw_weights(model)  # weights as transformers draws them let a neighbour change little
        with torch.no_grad():
            expected, answers = plain(model, given)
            losses = {packed: own(LanguageModel(model), config, packed) for packed in (True, False)}
        differences = {packed: abs(loss / expected - 1) for packed, (loss, _, _) in losses.items()}
        result = {
            "family": family, "proved": proof.is_proved, "is_apart": family in families.APART,
            "change": proof.change, "difference": differences[proof.is_proved], "packed_difference": differences[True],
            "answers": answers, "same_answers": {own_answers for _, own_answers, _ in losses.values()} == {answers},
            "examples": losses[proof.is_proved][2], "conversations": len(rows()),
        }  # fmt: skip
        print(json.dumps(result), flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
