"""The robust mean of updates: updates that do not fit are excluded by name, and the others outvote a wrong one."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from workloads.federation import weights as arrays
from workloads.federation.config import Terms
from workloads.federation.weights import Weights

OUTLIER = 3.0
"""Times the median distance from the middle of all updates, beyond which an update is excluded."""
# Rows of the arrays below are sites, columns are the weights of the model.


class TooFewUpdates(Exception):
    """A round has fewer good updates than its rule needs."""

    def __init__(self, excluded: Mapping[str, str]) -> None:
        self.excluded = excluded
        super().__init__("; ".join(f"{site}: {reason}" for site, reason in excluded.items()))


@dataclass(frozen=True, slots=True)
class RobustMean:
    """The result of a round."""

    update: dict[str, np.ndarray]
    excluded: dict[str, str]
    """Reason for each site whose update does not count."""


def combine(updates: Mapping[str, Weights], model: Weights, terms: Terms) -> RobustMean:
    """Return the robust mean of *updates*, by site, of *model*.

    Each site counts the same, because the number of its examples is its own statement.

    Raises:
        TooFewUpdates: Fewer good updates are left than the rule needs.
    """
    excluded = {site: flaw for site, update in updates.items() if (flaw := find_flaw(update, model))}
    sites = [site for site in updates if site not in excluded]
    clipped = [arrays.clip(updates[site], terms.clip_norm) for site in sites]
    rows = np.stack([_flatten(each, model) for each in clipped]) if clipped else np.zeros((0, 0), np.float32)
    for site, reason in _outliers(sites, rows, terms.sites_min).items():
        excluded[site] = reason
    kept = [index for index, site in enumerate(sites) if site not in excluded]
    if len(kept) < terms.sites_min:
        raise TooFewUpdates(excluded)
    if terms.rule == "krum":
        chosen = [kept[index] for index in choose_by_krum(rows[kept], terms.tolerated)]
        excluded |= {sites[index]: "Krum chose others, which are nearer to each other" for index in {*kept} - {*chosen}}
        mean: np.ndarray = rows[chosen].mean(0)
    else:
        mean = trimmed_mean(rows[kept], terms.tolerated)
    return RobustMean(_unflatten(mean, model), dict(sorted(excluded.items())))


def find_flaw(update: Weights, model: Weights) -> str:
    """Return why *update* cannot be an update of *model*; empty if it can."""
    if update.keys() != model.keys():
        return "its weights have other names than the model"
    for name, array in update.items():
        if array.shape != model[name].shape or array.dtype != np.float32:
            return f"its weight {name} is {array.dtype} with shape {array.shape}"
    return "" if arrays.are_finite(update) else "it has numbers that are not finite"


def trimmed_mean(rows: np.ndarray, trimmed: int) -> np.ndarray:
    """Return the mean of each column without its *trimmed* largest and smallest values.

    Source: Yin et al. 2018, arXiv:1803.01498, definition 2.
    """
    result: np.ndarray = np.sort(rows, 0)[trimmed : len(rows) - trimmed].mean(0)
    return result


def choose_by_krum(rows: np.ndarray, tolerated: int) -> list[int]:
    """Return the rows with the smallest sums of squared distances to their nearest rows: all but *tolerated*.

    Source: Blanchard et al. 2017, arXiv:1703.02757, section 4 and Multi-Krum in section 6.
    """
    squares = np.square(rows[:, None] - rows[None], dtype=np.float64).sum(-1)
    nearest = np.sort(squares, 1)[:, 1 : len(rows) - tolerated - 1]  # the first one is the row itself
    order = np.argsort(nearest.sum(1), kind="stable")
    return sorted(int(index) for index in order[: len(rows) - tolerated])


def _outliers(sites: Sequence[str], rows: np.ndarray, sites_min: int) -> dict[str, str]:
    """Return the reason for each site whose update is far from all others, so that *sites_min* are left."""
    if len(sites) <= sites_min:  # the rule itself bounds the updates that are left: one site cannot end the round
        return {}
    distances = np.sqrt(np.square(rows - np.median(rows, 0), dtype=np.float64).sum(1))
    limit = OUTLIER * float(np.median(distances))
    farthest = np.argsort(-distances, kind="stable")[: len(sites) - sites_min]
    return {
        sites[index]: f"its distance from the middle of all updates is {distances[index] / limit * OUTLIER:.1f} "
        "times the median"
        for index in map(int, farthest)
        if 0 < limit < distances[index]
    }


def _flatten(update: Weights, model: Weights) -> np.ndarray:
    return np.concatenate([update[name].ravel() for name in model])


def _unflatten(row: np.ndarray, model: Weights) -> dict[str, np.ndarray]:
    ends = np.cumsum([array.size for array in model.values()])[:-1]
    parts = np.split(row, ends)
    return {name: part.reshape(model[name].shape) for (name, part) in zip(model, parts, strict=True)}
