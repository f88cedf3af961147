"""The privacy loss that an attack shows: guesses of which planted records a run has trained on.

Source: Steinke, Nasr and Jagielski 2023, arXiv:2305.08846, theorem 5.2. The guesses about one run are enough, since
each planted record has a coin of its own. The module needs no PyTorch; it loads NumPy and SciPy when it computes.
"""

import math
from typing import Annotated, Self

from pydantic import Field, model_validator
from typing_extensions import TypedDict

from workloads.config_schema import ConfigSchema
from workloads.privacy_settings import PLANTED_MAX, PLANTED_MIN

CONFIDENCE = 0.95
"""Probability with which the true loss is not below the one that is shown."""
LARGEST = 100.0
"""Largest privacy loss that is looked for."""
DIGITS = 6


class Guesses(ConfigSchema):
    """The result of the attack on a run."""

    records: Annotated[int, Field(ge=PLANTED_MIN, le=PLANTED_MAX)]
    """Planted records, of which the run has trained on about half."""
    guesses: Annotated[int, Field(ge=1)]
    """Planted records about which there is a guess: those of which the attack is surest."""
    right: Annotated[int, Field(ge=0)]
    """Right guesses."""

    @model_validator(mode="after")
    def _check_order(self) -> Self:
        if not self.right <= self.guesses <= self.records:
            raise ValueError("there are more right guesses than guesses, or more guesses than planted records")
        return self


class AttackData(TypedDict):
    """The attack on the trained model, and the privacy loss that it shows."""

    records: int
    """Random records, each of which the run has trained on by a coin."""
    guesses: int
    """Planted records about which the attack has guessed whether the run has trained on them."""
    right: int
    """Right guesses."""
    accuracy: list[float]
    """Ends of the interval of the share of right guesses, by Clopper and Pearson, at *confidence*."""
    confidence: float
    """Confidence of the interval, and of *epsilon*."""
    epsilon: float
    """Lower bound of the privacy loss, at the promised delta; 0 if the guesses show none."""
    epsilon_if_all_right: float
    """The bound if all guesses had been right: a larger loss cannot be shown with as many planted records."""


def describe(found: Guesses, delta: float) -> AttackData:
    """Return what the guesses *found* show about the privacy loss at *delta*."""
    from scipy import stats

    interval = stats.binomtest(found.right, found.guesses).proportion_ci(CONFIDENCE, method="exact")
    every = found.model_copy(update={"right": found.guesses})
    return {
        "records": found.records,
        "guesses": found.guesses,
        "right": found.right,
        "accuracy": [round(float(interval.low), DIGITS), round(float(interval.high), DIGITS)],
        "confidence": CONFIDENCE,
        "epsilon": lower_bound(found, delta),
        "epsilon_if_all_right": lower_bound(every, delta),
    }


def lower_bound(found: Guesses, delta: float) -> float:
    """Return the largest privacy loss that the guesses *found* rule out at `CONFIDENCE`, rounded down; 0 for none."""
    from scipy import optimize

    unlikely = 1 - CONFIDENCE

    def excess(epsilon: float) -> float:
        return probability(found, epsilon, delta) - unlikely

    if excess(0) >= 0:
        return 0.0
    if excess(LARGEST) < 0:
        return LARGEST
    found_at = float(optimize.brentq(excess, 0, LARGEST, xtol=10.0**-DIGITS))
    return int(max(0.0, found_at - 10.0**-DIGITS) * 10**DIGITS) / 10.0**DIGITS


def probability(found: Guesses, epsilon: float, delta: float) -> float:
    """Return a bound of the probability of as many right guesses about a run with privacy loss *epsilon* at *delta*.

    With ``delta`` 0 each guess is right with the probability of randomized response. The rest of the bound is the
    most that *delta* can add: it spends its probability on the fewest guesses that were missing.
    """
    import numpy as np
    from scipy import stats

    rightness = 1 / (1 + math.exp(-epsilon))
    reached = float(stats.binom.sf(found.right - 1, found.guesses, rightness))
    missing = np.arange(1, found.right + 1)
    falls_short = np.cumsum(stats.binom.pmf(found.right - missing, found.guesses, rightness))
    spent = float((falls_short / missing).max(initial=0.0))
    return float(min(1.0, reached + 2 * found.records * delta * spent))
