"""Rules that score answers, beside examples of what they mean."""

import pytest

from workloads.training.config import Reward
from workloads.training.rewards import BOX, RULES, score

R1 = (Reward(kind="boxed"), Reward(kind="thought", weight=0.25))


@pytest.mark.parametrize(
    ("kind", "text", "expected", "holds"),
    [
        ("exact", " 4\n", "4", True), ("exact", "<think>5</think> 4", "4", True), ("exact", "4.", "4", False),
        ("exact", "4 4", "4", False), ("exact", "", "", True),
        ("number", "It is 3, no: 4.", "4", True), ("number", "4 or 5", "4", False),
        ("number", "1,000.0 m", "1000", True), ("number", "-7", "-7", True), ("number", "10-7", "7", True),
        ("number", "-7", "7", False), ("number", "no", "7", False), ("number", "7", "seven", False),
        ("number", "0.1", "0.10", True), ("number", "<think>9</think>", "9", False),
        ("boxed", r"so \boxed{ 4 }", "4.0", True), ("boxed", r"\boxed{5} and \boxed{4}", "4", True),
        ("boxed", r"\boxed{\frac{1}{2}}", r"\frac{1} {2}", True), ("boxed", r"\boxed{4", "4", False),
        ("boxed", "4", "4", False),
        ("boxed", r"\boxed{nan}", "NaN", False), ("boxed", r"\boxed{Infinity}", "inf", False),
        ("thought", "<think>hm</think>4", "", True), ("thought", "hm</think>\n4", "", True),
        ("thought", "4", "", False),
        ("thought", "<think></think>4", "", False), ("thought", "<think>hm</think>", "", False),
        ("thought", "<think>a<think>b</think>4", "", False), ("thought", "<think>a</think>b</think>4", "", False),
    ],
)  # fmt: skip
def test_a_rule_holds_or_not(kind: str, text: str, expected: str, holds: bool) -> None:
    assert RULES[kind](text, expected) is holds


def test_a_reward_is_the_weighted_mean_of_its_rules() -> None:
    assert score(R1, "<think>2+2</think>" + BOX + "4}", "4", ended=True) == 1
    assert score(R1, BOX + "4}", "4", ended=True) == pytest.approx(0.8)
    assert score(R1, "<think>2+2</think>5", "4", ended=True) == pytest.approx(0.2)


def test_an_answer_that_was_cut_off_is_right_by_no_rule_but_the_constant() -> None:
    assert score((Reward(kind="exact"),), "4", "4", ended=False) == 0
    assert score((Reward(kind="constant"),), "", "4", ended=False) == 1


@pytest.mark.parametrize("text", ["9" * 100_000, BOX * 20_000, "1,234" * 20_000, "<think>" * 20_000, "-" * 100_000])
def test_rules_end_whatever_a_model_writes(text: str) -> None:
    for rule in RULES.values():
        assert rule(text, "4") is False
