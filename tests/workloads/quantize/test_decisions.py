"""What is decided without a model: the precision of a target, the score, the gate, which layers are left out."""

from collections.abc import Sequence

import numpy as np
import pytest

from workloads.errors import UserError
from workloads.quantize.__main__ import describe_speed
from workloads.quantize.config import QuantizationGate, QuantizeSettings
from workloads.quantize.measure import Figures, judge_speed
from workloads.quantize.score import loosened_limits, score, shortfalls, too_slow
from workloads.quantize.search import search
from workloads.quantize.targets import choose


@pytest.mark.parametrize(
    ("target", "precision"),
    [
        ("cpu", "int8"), ("t4", "int8"), ("a100-80gb", "int8"), ("h100-sxm", "int8"), ("mi300x", "int8"),
        ("v100-16gb", "fp16"), ("p100-16gb", "fp16"), ("b200", "fp16"), ("gaudi2", "fp16"),
    ],
)  # fmt: skip
def test_the_catalogue_says_the_precision(target: str, precision: str) -> None:
    assert choose(target, "auto").precision == precision


@pytest.mark.parametrize(
    ("target", "precision", "expected"),
    [
        ("v100-16gb", "int8", "precision: Volta does not support int8; one of fp32, fp16. Use fp16."),
        (
            "b200",
            "int8",
            "precision: Blackwell does not support int8; one of fp32, tf32, fp16, bf16, fp8, fp4. Use fp16.",
        ),
        ("cpu", "fp16", "precision: a CPU does not support fp16; one of fp32, int8. Use int8."),
        ("t5", "auto", "--target: no such target, t5; one of cpu, p100-16gb, "),
    ],
)
def test_the_wrong_precision_is_refused_and_the_right_one_named(target: str, precision: str, expected: str) -> None:
    with pytest.raises(UserError) as refused:
        choose(target, precision)
    assert str(refused.value).startswith(expected)


BEFORE = np.array([[3.0, 1, 0], [0, 2, 1], [0, 1, 2], [2, 1, 0]])


def test_a_model_that_is_the_original_keeps_everything() -> None:
    found = score(BEFORE, BEFORE, np.array([0, 1, 2, 1]), "classify")
    assert (found.accuracy, found.accuracy_kept, found.agreement) == (0.75, 1.0, 1.0)
    assert found.cosine == pytest.approx(1)
    assert shortfalls(found, QuantizationGate()) == []


def test_every_part_of_the_gate_is_asked() -> None:
    after = BEFORE.copy()
    after[0] = [-3, 1, 9]
    found = score(BEFORE, after, np.array([0, 1, 2, 1]), "classify")
    assert found.accuracy_kept == pytest.approx(2 / 3)
    assert shortfalls(found, QuantizationGate()) == [
        "accuracy kept 66.67%, at least 98.00%",
        "agreement 75.00%, at least 95.00%",
        f"cosine {found.cosine:.2%}, at least 98.00%",
    ]


def test_without_labels_accuracy_is_unknown_and_does_not_pass() -> None:
    found = score(BEFORE, BEFORE, None, "classify")
    assert shortfalls(found, QuantizationGate()) == ["accuracy kept unknown, at least 98.00%"]
    assert shortfalls(found, QuantizationGate(accuracy_kept=None)) == []


def test_a_model_that_gives_no_numbers_does_not_pass() -> None:
    found = score(BEFORE, np.full_like(BEFORE, np.nan), None, "classify")
    assert any(lack.startswith("cosine") for lack in shortfalls(found, QuantizationGate(accuracy_kept=None)))


def test_embeddings_answer_with_what_is_nearest() -> None:
    near = np.array([[1, 0.0], [1, 0.1], [0, 1], [0.1, 1]])
    labels = np.array([7, 7, 8, 8])
    assert score(near, near, labels, "embed").accuracy == 1
    far = near[[0, 2, 1, 3]]
    assert score(near, far, labels, "embed").accuracy == 0
    assert score(near, far, labels, "embed").agreement == 0


def test_a_gate_that_was_loosened_is_known() -> None:
    assert loosened_limits(QuantizationGate()) == []
    assert loosened_limits(QuantizationGate(accuracy_kept=0.99, agreement=1.0)) == []
    assert loosened_limits(QuantizationGate(accuracy_kept=None, cosine=0.5)) == ["accuracy_kept", "cosine"]
    assert loosened_limits(QuantizationGate(speed=None)) == loosened_limits(QuantizationGate(speed=0.5)) == ["speed"]
    assert loosened_limits(QuantizationGate(speed=1.5)) == []


def figures(rows_per_second: float) -> Figures:
    return Figures(1, 1, {1: 1.0, 32: 32 / rows_per_second})


@pytest.mark.parametrize(
    ("measured", "speed"),
    [
        ((120,), 1.2),
        ((95,), 0.95),
        ((90, 120, 130), 1.2),
        ((90, 130, 80), 0.9),
        ((94, 93, 92), 0.93),
    ],
)
def test_a_low_speed_is_measured_three_times_and_its_median_judges(measured: Sequence[int], speed: float) -> None:
    original = figures(100)
    first, *later = ([original, figures(each)] for each in measured)

    assert judge_speed(first, lambda: later.pop(0), 0.95) == pytest.approx(speed)
    assert later == []


def test_a_model_that_is_slower_than_its_original_falls_short() -> None:
    usual = QuantizeSettings()

    assert too_slow(0.9, usual) == [
        "speed 0.90 times the original's, at least 0.95 (--publish-slower REASON publishes it)"
    ]
    assert too_slow(0.95, usual) == too_slow(None, usual) == []
    assert too_slow(0.9, QuantizeSettings(gate=QuantizationGate(speed=None))) == []
    assert too_slow(0.9, QuantizeSettings(publish_slower="it fits the memory")) == []
    assert too_slow(1.2, QuantizeSettings(gate=QuantizationGate(speed=1.5))) != []


LAYERS = [f"layer-{number}" for number in range(9)]


@pytest.mark.parametrize("bad", [[], [4], [0, 8], [1, 2, 3, 5], LAYERS[:1]])
def test_as_few_layers_are_left_out_as_it_takes(bad: list[int | str]) -> None:
    culprits = {LAYERS[number] if isinstance(number, int) else number for number in bad}
    tried: list[set[str]] = []

    def good_without(left_out: Sequence[str]) -> bool:
        tried.append(set(left_out))
        return culprits <= set(left_out)

    found = search(LAYERS, lambda layer: 1.0 if layer in culprits else 0.1, good_without)
    assert set(found.left_out) == culprits
    assert len(tried) <= 6, "halves are tried, not every number"
    assert list(found.costs) == sorted(found.costs, key=lambda layer: -found.costs[layer])


def test_where_leaving_out_is_no_help_nothing_is() -> None:
    """All of them in full precision would be the original under another name."""
    found = search(LAYERS, lambda layer: 0.5, lambda left_out: False)
    assert found.left_out == ()
    assert found.costs.keys() == set(LAYERS)


def test_a_slower_model_is_called_slower() -> None:
    assert [describe_speed(ratio) for ratio in (2.5, 0.5)] == ["2.50 times faster", "2.00 times slower"]
