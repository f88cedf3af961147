"""Noise and samples come from the operating system, and have the size that the accountant assumes."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from workloads.training.privacy import noise
from workloads.training.privacy.training import PrivateTraining
from workloads.training.workers.workers import Alone

COUNT = 200_000


def test_noise_has_the_deviation_and_the_tails_of_a_normal_distribution() -> None:
    values = noise.gaussian((2, COUNT // 2), 3.0).flatten() / 3

    assert abs(float(values.mean())) < 0.02
    assert abs(float(values.square().mean()) - 1) < 0.03
    assert abs(float((values**4).mean()) - 3) < 0.2
    assert 0.0015 < float((values.abs() > 3).float().mean()) < 0.004  # 0.0027


def test_neither_the_seed_of_pytorch_nor_a_call_before_predicts_it() -> None:
    draws = []
    for _ in range(2):
        torch.manual_seed(0)
        draws.append(noise.gaussian((1000,), 1.0))
    assert abs(float(torch.corrcoef(torch.stack(draws))[0, 1])) < 0.2


def test_the_generator_of_pytorch_is_not_used() -> None:
    torch.manual_seed(0)
    before = torch.get_rng_state()
    noise.gaussian((10,), 1.0)
    noise.sample(1000, 0.5)
    assert torch.equal(before, torch.get_rng_state())


def test_a_sample_takes_each_number_by_itself() -> None:
    taken = noise.sample(COUNT, 0.1)
    assert abs(len(taken) / COUNT - 0.1) < 0.005
    neighbours = int((taken[1:] - taken[:-1] == 1).sum()) / len(taken)
    assert abs(neighbours - 0.1) < 0.02
    assert len({len(noise.sample(1000, 0.1)) for _ in range(20)}) > 1  # no fixed size
    assert not len(noise.sample(1000, 0.0))


class Beside(Alone):
    """A process beside another one whose clipped sum is *other*."""

    def __init__(self, other: float) -> None:
        self._other = other

    def all_reduce_sum(self, numbers: Tensor) -> Tensor:
        return numbers + self._other


@pytest.mark.parametrize("process", ["its own", "another"])
def test_the_digits_of_small_numbers_do_not_tell_what_noise_was_added_to(process: str) -> None:
    """The attack of Mironov 2012: fp32 noise plus a gradient in fp32 is a multiple of the gradient's last digit."""
    count = 1 << 16
    gradient = float(np.float32(count**-0.5))
    workers = Beside(gradient) if process == "another" else Alone()
    holder: Any = SimpleNamespace(context=SimpleNamespace(workers=workers))
    total = torch.full((count,), gradient if process == "its own" else 0.0)
    released = PrivateTraining._noisy(holder, total, 0.835).float().double().abs()
    small = released[released < gradient / 4]
    last_digit = float(np.spacing(np.float32(gradient / 2)))
    assert len(small)
    assert int((small.remainder(last_digit) != 0).sum()) > len(small) / 4
