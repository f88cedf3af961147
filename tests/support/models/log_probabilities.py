"""The figures of an evaluation, computed by transformers alone: what the served model should be found to have.

python -m tests.support.models.log_probabilities MODEL CHOICES TEXTS      by an environment with PyTorch
"""

import json
import math
import sys
from pathlib import Path
from typing import Any


def main(directory: str, choices: str, texts: str) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer: Any = AutoTokenizer.from_pretrained(directory)
    model: Any = AutoModelForCausalLM.from_pretrained(directory, dtype=torch.bfloat16)

    def sums(before: list[int], tokens: list[int]) -> float:
        """Return the log-probability of *tokens* after *before*."""
        with torch.no_grad():
            logits = model(torch.tensor([before + tokens])).logits[0].float().log_softmax(-1)
        return sum(float(logits[len(before) + n - 1, token]) for n, token in enumerate(tokens))

    def after(text: str, more: str) -> float:
        before, whole = tokenizer(text).input_ids, tokenizer(text + more).input_ids
        return sums(before, whole[len(before) :])

    right = rows = 0
    for row in _rows(choices):
        found = [after(row["question"], choice) for choice in row["choices"]]
        right, rows = right + (found.index(max(found)) == row["answer"]), rows + 1
    # the harness begins a text with the token that begins texts, or else with the one that ends them
    begin = tokenizer.eos_token_id if tokenizer.bos_token_id is None else tokenizer.bos_token_id
    total, size = 0.0, 0
    for row in _rows(texts):
        total += sums([begin], tokenizer(row["text"]).input_ids)
        size += len(row["text"].encode())
    print(json.dumps({"accuracy": right / rows, "bits_per_byte": -total / size / math.log(2)}))


def _rows(path: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in Path(path).read_text().splitlines()]


if __name__ == "__main__":
    main(*sys.argv[1:])
