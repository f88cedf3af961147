"""Noise and samples come from the operating system, and have the size that the accountant assumes."""

import torch

from workloads.training.privacy import noise

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
