"""Which layers cost the most in 8 bits, and how few of them have to be left out."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class SearchCandidate:
    """What the search has decided."""

    left_out: tuple[str, ...]
    """Layers that stay in full precision, the costliest first. None, too, where leaving out is no help."""
    costs: dict[str, float]
    """Of each layer, how far the model with it alone in 8 bits is from the original: 1 − cosine, the largest first."""


def search(
    layers: Sequence[str], cost_of: Callable[[str], float], good_without: Callable[[Sequence[str]], bool]
) -> SearchCandidate:
    """Return the fewest of the costliest *layers* without which the model is good.

    Args:
        cost_of: What one layer alone costs.
        good_without: Whether the model is good with all but these in 8 bits. Twice as many are tried each time, until
            it is; with more left out than that it is taken to stay so.
    """
    if good_without(()):
        return SearchCandidate((), {})
    costs = {layer: cost_of(layer) for layer in layers}
    ordered = sorted(layers, key=lambda layer: -costs[layer])
    bad, good = 0, 1  # with none left out it is bad, with all of them it is the original
    while good < len(ordered) and not good_without(ordered[:good]):
        # from few to many, as how good it is rises unevenly where rows are few
        bad, good = good, min(2 * good, len(ordered))
    while good - bad > 1:
        middle = (bad + good) // 2
        if good_without(ordered[:middle]):
            good = middle
        else:
            bad = middle
    # without any in 8 bits it would be the original: it is short
    left_out = ordered[:good] if good < len(ordered) else []
    return SearchCandidate(tuple(left_out), {layer: costs[layer] for layer in ordered})
