"""Find the few layers that have to stay in full precision."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class SearchCandidate:
    """The result of the search."""

    left_out: tuple[str, ...]
    """Layers that stay in full precision, the costliest first; none if leaving layers out does not help."""
    costs: dict[str, float]
    """The cost of each layer: 1 − cosine between the original and the model with it alone in 8 bits; largest first."""


def search(
    layers: Sequence[str], cost_of: Callable[[str], float], good_without: Callable[[Sequence[str]], bool]
) -> SearchCandidate:
    """Return the fewest of the costliest *layers* that have to be left out for a good model.

    Args:
        cost_of: The cost of one layer alone in 8 bits.
        good_without: Whether the model is good with all but these layers in 8 bits. The search doubles their number
            until it is, and assumes that it stays good with more left out.
    """
    if good_without(()):
        return SearchCandidate((), {})
    costs = {layer: cost_of(layer) for layer in layers}
    ordered = sorted(layers, key=lambda layer: -costs[layer])
    bad, good = 0, 1  # with no layer left out it is bad, with all left out it is the original
    while good < len(ordered) and not good_without(ordered[:good]):
        # from few to many, because the quality rises unevenly on few rows
        bad, good = good, min(2 * good, len(ordered))
    while good - bad > 1:
        middle = (bad + good) // 2
        if good_without(ordered[:middle]):
            good = middle
        else:
            bad = middle
    # with all layers left out the model would be the original: the search failed
    left_out = ordered[:good] if good < len(ordered) else []
    return SearchCandidate(tuple(left_out), {layer: costs[layer] for layer in ordered})
