"""Rules that score an answer by itself and the expected answer, without a model of rewards.

A model learns to satisfy exactly these rules: each of them looks at the text alone, and in bounded time.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal

from workloads.training.chat_template import CLOSE, OPEN
from workloads.training.config import Reward

NUMBERS = re.compile(r"(?:(?<![\w.])-)?\d[\d.,]*")
"""Places where numbers may be; a digit is in one of them, so that the search takes one pass."""
NUMBER = re.compile(r"-?(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?")
NUMBER_CHARACTERS = 80
"""The longest number that is compared."""
BOX = "\\boxed{"
FULL = 1 - 1e-9
"""Reward from which an answer satisfies all rules, in sums of floats."""
COMPARING = ("exact", "number", "boxed")
"""Rules that compare an answer with the expected one."""


def score(rules: Sequence[Reward], text: str, expected: str, ended: bool) -> float:
    """Return the reward of an answer, from 0 to 1: the weighted mean of *rules*.

    Args:
        text: The answer, with its thought.
        ended: Whether the model ended the answer by itself; one that was cut off is right by no rule but `constant`.
    """
    total = sum(rule.weight for rule in rules)
    reached = sum(
        rule.weight for rule in rules if rule.kind == "constant" or (ended and RULES[rule.kind](text, expected))
    )
    return reached / total


def is_exact(text: str, expected: str) -> bool:
    return _after_thought(text) == expected.strip()


def is_number(text: str, expected: str) -> bool:
    """Return whether the last number of the answer is the expected one; 1,000.0 is 1000."""
    numbers = NUMBERS.findall(_after_thought(text))
    found = _number(numbers[-1].rstrip(".,")) if numbers else None
    return found is not None and found == _number(expected)


def is_boxed(text: str, expected: str) -> bool:
    """Return whether the content of the last box is the expected answer, as text without blanks or as a number."""
    content = _box(_after_thought(text))
    if content is None:
        return False
    same_number = _number(content) is not None and _number(content) == _number(expected)
    return same_number or "".join(content.split()) == "".join(expected.split())


def has_thought(text: str, expected: str) -> bool:
    """Return whether the answer is one thought, which the prompt or the answer opens, and a text after it."""
    thought, closed, after = text.partition(CLOSE)
    thought = thought.lstrip().removeprefix(OPEN)
    return bool(closed and thought.strip() and after.strip()) and not any(
        mark in part for mark in (OPEN, CLOSE) for part in (thought, after)
    )


RULES: Mapping[str, Callable[[str, str], bool]] = {
    "exact": is_exact, "number": is_number, "boxed": is_boxed, "thought": has_thought,
}  # fmt: skip


def _after_thought(text: str) -> str:
    return text.rpartition(CLOSE)[2].strip()


def _number(text: str) -> Decimal | None:
    text = text.strip()
    if len(text) > NUMBER_CHARACTERS or not NUMBER.fullmatch(text):
        return None
    return Decimal(text.replace(",", ""))


def _box(text: str) -> str | None:
    """Return the content of the last complete box of *text*, with the braces inside it; None without one."""
    start = text.rfind(BOX)
    if start < 0:
        return None
    depth, first = 1, start + len(BOX)
    for n in range(first, len(text)):
        depth += {"{": 1, "}": -1}.get(text[n], 0)
        if not depth:
            return text[first:n]
    return None
