"""The privacy loss of noisy steps, by the PRV accountant of opacus (Gopi et al. 2021, arXiv:2106.02848)."""

import warnings
from collections import Counter
from collections.abc import Iterable
from functools import lru_cache
from typing import NamedTuple

from workloads.errors import Diagnostic, UserError

TOLERANCE = 0.01
"""Error of a bound, as a part of it; the accountant returns the upper end."""
STEP = 1.02
"""Ratio of two noises that the search compares last."""
WIDE = 1.5
"""Ratio of two noises that the search compares first."""
LARGEST = 1e5


class Mechanism(NamedTuple):
    """Steps of a Gaussian mechanism on a Poisson sample."""

    rate: float
    """Probability with which a step takes a record or person."""
    noise: float
    """Deviation of the noise as a multiple of the clip."""
    steps: int


def epsilon(mechanisms: Iterable[Mechanism], delta: float, scale: float) -> float:
    """Return the upper bound of the privacy loss of all *mechanisms* together, at *delta*.

    Args:
        scale: The epsilon to compare with; the bound is exact to a hundredth of it.

    Raises:
        UserError: The loss is too large to be computed.
    """
    steps: Counter[tuple[float, float]] = Counter()
    for each in mechanisms:
        steps[each.noise, each.rate] += each.steps
    history = tuple((noise, rate, number) for (noise, rate), number in sorted(steps.items()) if number)
    return _compose(history, delta, scale) if history else 0.0


@lru_cache
def _compose(history: tuple[tuple[float, float, int], ...], delta: float, scale: float) -> float:
    """Return the bound for noise, rate and steps in *history*; runs of one configuration have the same one."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # opacus warns about the start of its search for the domain
        from opacus.accountants import PRVAccountant

        accountant = PRVAccountant()
        accountant.history = [*history]
        try:
            return float(accountant.get_epsilon(delta, eps_error=TOLERANCE * scale))
        except (MemoryError, ValueError, ArithmeticError) as error:  # a loss far above *scale* has no end in memory
            steps = sum(each[2] for each in history)
            problem = f"the accountant finds no bound for {steps} steps at delta {delta:g}: {error}"
            expected = f"a loss of the size of epsilon {scale:g}"
            raise UserError(
                Diagnostic("privacy", problem[:300], expected, "Look at the charges of the ledger")
            ) from error


def noise_multiplier(target: float, delta: float, rate: float, steps: int) -> float:
    """Return the noise with which *steps* steps keep *target* at *delta*, at most two hundredths more than it takes.

    Raises:
        UserError: No noise is large enough.
    """

    def fits(noise: float) -> bool:
        return epsilon([Mechanism(rate, noise, steps)], delta, target) <= target

    low = high = 1.0
    while not fits(high):
        low, high = high, high * WIDE
        if high > LARGEST:
            problem = f"no noise lets {steps} steps at a rate of {rate:.3g} keep epsilon {target:g}"
            raise UserError(Diagnostic("privacy.epsilon", problem, help="Take fewer steps, or a larger epsilon"))
    while low == high and fits(low / STEP):  # less noise takes the accountant more time
        low, high = low / STEP, low / STEP
    while high > low * STEP:
        middle = (low * high) ** 0.5
        low, high = (low, middle) if fits(middle) else (middle, high)
    return high
