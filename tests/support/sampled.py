"""Cases of tests that are a product: a sample in `make test`, which a seed chooses, and all of them in `make soak`.

The seed is the commit, so that a commit has one sample, and the next one another. `RACKWRIGHT_SEED=TEXT` sets it, and
`RACKWRIGHT_CASES=all` runs all cases.
"""

import os
import random
import subprocess
from collections.abc import Callable, Hashable, Iterable
from functools import cache
from typing import TypeVar

from tests.support.sources import ROOT

SEED, CASES = "RACKWRIGHT_SEED", "RACKWRIGHT_CASES"
"""Variables of the environment."""

Case = TypeVar("Case")


@cache
def seed() -> str:
    """Return the text that chooses the samples: the same one in each process of a run."""
    head = ["git", "rev-parse", "--short=12", "HEAD"]
    return os.environ.get(SEED) or subprocess.run(head, cwd=ROOT, capture_output=True, text=True).stdout.strip()


def has_all_cases() -> bool:
    """Return whether this run has all cases."""
    return os.environ.get(CASES) == "all"


def sampled(cases: Iterable[Case], values: Callable[[Case], Iterable[Hashable]]) -> list[Case]:
    """Return cases in their order, of which each of the *values* of all cases has at least one.

    Args:
        values: The values of a case that no run may leave untested, such as its role and its property.
    """
    cases = list(cases)
    if has_all_cases():
        return cases
    order = list(range(len(cases)))
    random.Random(seed()).shuffle(order)
    covered: set[Hashable] = set()
    chosen = []
    for number in order:
        own = set(values(cases[number]))
        if own - covered:
            covered |= own
            chosen.append(number)
    return [cases[number] for number in sorted(chosen)]
