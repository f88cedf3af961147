"""Random numbers of differential privacy, from the generator of the operating system: nothing has a seed or a state.

PyTorch's generators do not serve. Training seeds them from the configuration, so that the noise would be public; and
the one of processors has a seed of 32 bits, which a computer tries out.
"""

import os

import numpy as np
import torch
from torch import Tensor

PART = 1 << 18
"""Numbers that are drawn at a time, which bounds the memory."""


def gaussian(shape: torch.Size | tuple[int, ...], deviation: float) -> Tensor:
    """Return normal noise in double precision.

    Each number is half the sum of both results of two draws, so that the gaps between floating-point numbers do not
    tell which gradient it was added to. Source: Holohan and Braghin 2021, arXiv:2107.10138. It is added in double
    precision: rounded before, small numbers of noise have digits that a gradient in fp32 cannot have.
    """
    count = int(np.prod(shape, dtype=np.int64))
    noise = np.empty(count)
    for first in range(0, count, PART):
        part = noise[first : first + PART]
        radius, angle = uniform(2 * len(part)), uniform(2 * len(part))
        radius, angle = np.sqrt(-2 * np.log1p(-radius)), 2 * np.pi * angle
        draws = np.concatenate([radius * np.cos(angle), radius * np.sin(angle)])  # Box and Muller 1958
        part[:] = draws.reshape(4, -1).sum(0) * (deviation / 2)
    return torch.from_numpy(noise).reshape(shape)


def sample(count: int, rate: float) -> Tensor:
    """Return the numbers below *count* that a Poisson sample with *rate* takes: each one by itself."""
    return torch.from_numpy(np.flatnonzero(uniform(count) < rate))


def uniform(count: int) -> "np.ndarray[tuple[int], np.dtype[np.float64]]":
    """Return *count* uniform numbers from 0, inclusive, to 1, exclusive, in steps of 2**-53."""
    return (np.frombuffer(os.urandom(8 * count), np.uint64) >> np.uint64(11)) * 2.0**-53
