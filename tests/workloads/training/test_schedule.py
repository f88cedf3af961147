"""Learning rates: the guide's function to the last bit, and the shapes of the others."""

import pytest

from tests.support.training_runs import config
from workloads.training.schedule import adaptive, cosine, learning_rate, linear_ramp


def adaptive_lr(epoch):
    """As the guide prints it, with an initial rate of 1."""
    if epoch < 5:
        return 0.1
    elif epoch < 20:  # noqa: RET505
        return 1.0
    else:
        return 0.95 ** (epoch - 20)


@pytest.mark.parametrize("epoch", range(61))
def test_adaptive_is_the_guides(epoch: int) -> None:
    assert adaptive(epoch) == adaptive_lr(epoch)


def test_adaptive_goes_by_epochs_not_by_steps() -> None:
    run = config("digits", "schedule.kind=adaptive", "optimizer.learning_rate=0.5")
    assert [learning_rate(run, step, epoch, 1) for step, epoch in ((900, 4), (901, 5), (902, 21))] == [
        0.05, 0.5, 0.5 * 0.95,
    ]  # fmt: skip


@pytest.mark.parametrize(("step", "factor"), [(0, 0.25), (1, 0.5), (2, 0.75), (3, 1.0), (999, 1.0)])
def test_a_ramp_climbs_in_equal_parts(step: int, factor: float) -> None:
    assert linear_ramp(step, 3) == factor


@pytest.mark.parametrize(("step", "factor"), [(0, 1 / 11), (9, 10 / 11), (10, 1.0), (60, 0.5), (110, 0.0), (500, 0.0)])
def test_a_cosine_falls_to_nothing_after_its_ramp(step: int, factor: float) -> None:
    assert cosine(step, 110, 10) == pytest.approx(factor)


def test_a_constant_stays() -> None:
    run = config("digits", "schedule.kind=constant", "optimizer.learning_rate=0.5")
    assert {learning_rate(run, step, step, 1) for step in range(50)} == {0.5}


@pytest.mark.parametrize(("scaled", "rate"), [("true", 2.0), ("false", 0.5)])
def test_the_rate_grows_with_the_world_where_it_is_wanted(scaled: str, rate: float) -> None:
    changes = ("schedule.kind=constant", "optimizer.learning_rate=0.5", f"schedule.scale_by_world={scaled}")
    assert learning_rate(config("digits", *changes), 7, 0, world=4) == rate
