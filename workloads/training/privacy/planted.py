"""Planted records: random ones, each of which a run trains on by a coin, so that an attack can guess which.

They belong to no person, so the ledger of the data set does not know them. Steps sample and clip them as they do each
record; the guess about a planted record follows from how far its loss has fallen since the initial weights.
"""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from workloads.training.config import ImageClassifier, TrainingConfig
from workloads.training.conversations import NOT_LEARNED
from workloads.training.data import Examples
from workloads.training.privacy.attack import Guesses

TOKENS = 32
"""Tokens of a planted record of a language model, at most: its gradient is clipped, however long it is."""
LOUDNESS = 3.0
"""Standard deviation of the pixels of a planted image, whose data have pixels from 0 to 1: a model tells loud images
apart soonest, so that the attack is the stronger."""
GUESSED = 3
"""One in so many planted records is guessed not to be among the data, and the attack says nothing about the rest: a
classifier gives one in ten the right class by chance, and those look as if the run had trained on them."""


class PlantedRecords(NamedTuple):
    """Shape letters: N planted records."""

    examples: Examples
    is_trained_N: Tensor
    """Whether the run trains on each planted record."""

    @property
    def in_training(self) -> Examples:
        """The planted records that the run trains on."""
        return Examples(self.examples.x[self.is_trained_N], self.examples.y[self.is_trained_N])


def draw(run: str, config: TrainingConfig, vocabulary: int, like: Tensor) -> PlantedRecords:
    """Return the planted records of *config* and their coins.

    Args:
        run: Random name of the run, from which they follow: they are no secret once the run has ended.
        vocabulary: Tokens of a language model.
        like: Inputs of the data, [N, S] tokens or [N, side, side] images.
    """
    assert config.privacy and config.privacy.planted_records
    count, model = config.privacy.planted_records, config.model
    numbers = np.random.default_rng(int(run, 16))
    coins = torch.from_numpy(numbers.random(count) < 0.5)
    if isinstance(model, ImageClassifier):
        x = torch.from_numpy(numbers.normal(0, LOUDNESS, (count, model.side, model.side))).to(like.dtype)
        y = torch.from_numpy(numbers.integers(0, model.classes, count))
        return PlantedRecords(Examples(x, y), coins)
    length = like.shape[-1]
    tokens = torch.from_numpy(numbers.integers(0, vocabulary, (count, min(TOKENS, length) + 1)))
    x = torch.zeros(count, length, dtype=like.dtype)
    y = torch.full((count, length), NOT_LEARNED, dtype=like.dtype)
    shown = tokens.shape[1] - 1
    x[:, :shown], y[:, :shown] = tokens[:, :-1].to(like.dtype), tokens[:, 1:].to(like.dtype)
    return PlantedRecords(Examples(x, y), coins)


def guess(fallen_N: Tensor, is_trained_N: Tensor) -> Guesses:
    """Return how many guesses are right about the planted records whose loss has *fallen* least: not trained on."""
    guessed = torch.argsort(fallen_N)[: len(fallen_N) // GUESSED]
    right = int((~is_trained_N[guessed]).sum())
    return Guesses(records=len(fallen_N), guesses=len(guessed), right=right)
