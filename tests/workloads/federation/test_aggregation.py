"""The robust mean: what it excludes, and what a wrong update can change."""

import numpy as np
import pytest

from tests.support.federations import terms
from workloads.federation import weights as arrays
from workloads.federation.aggregation import TooFewUpdates, combine

SITES = ("a", "b", "c", "d", "e", "f", "g")
MODEL = {"first": np.zeros((2, 3), np.float32), "second": np.zeros(4, np.float32)}


def updates(count: int = 7) -> dict[str, dict[str, np.ndarray]]:
    random = np.random.default_rng(0)
    return {
        site: {name: (1 + 0.1 * random.standard_normal(each.shape)).astype(np.float32) for name, each in MODEL.items()}
        for site in SITES[:count]
    }


def filled(value: float) -> dict[str, np.ndarray]:
    return {name: np.full_like(each, value) for name, each in MODEL.items()}


RULES = pytest.mark.parametrize("rule", ["trimmed-mean", "krum"])


@RULES
@pytest.mark.parametrize(
    ("poison", "reason"),
    [
        (filled(np.nan), "it has numbers that are not finite"),
        (filled(np.inf), "it has numbers that are not finite"),
        (filled(-3.0), "its distance from the middle"),
        ({"first": MODEL["first"]}, "its weights have other names"),
        ({**MODEL, "second": np.zeros(5, np.float32)}, "its weight second is float32 with shape (5,)"),
        ({**MODEL, "second": np.zeros(4, np.float64)}, "its weight second is float64"),
    ],
)
def test_an_update_that_does_not_fit_is_excluded_by_name(rule: str, poison: dict[str, np.ndarray], reason: str) -> None:
    combined = combine({**updates(), "c": poison}, MODEL, terms(members=SITES, rule=rule, clip_norm=10.0))

    assert reason in combined.excluded["c"]
    assert all(np.abs(each - 1).max() < 0.2 for each in combined.update.values())


@RULES
def test_a_wrong_update_that_is_near_the_others_stays_between_them(rule: str) -> None:
    good = updates()
    wrong = {name: each + np.float32(0.3) for name, each in good["c"].items()}
    combined = combine({**good, "c": wrong}, MODEL, terms(members=SITES, rule=rule, clip_norm=10.0))

    for name, each in combined.update.items():
        others = np.stack([good[site][name] for site in SITES if site != "c"])
        assert (each <= others.max(0)).all() and (each >= others.min(0)).all()


def test_a_long_update_is_clipped_before_it_counts() -> None:
    combined = combine({site: filled(1e30) for site in SITES}, MODEL, terms(members=SITES, clip_norm=2.0))

    assert arrays.norm(combined.update) == pytest.approx(2.0)


@pytest.mark.parametrize(("rule", "count"), [("trimmed-mean", 4), ("krum", 6)])
@pytest.mark.parametrize("poison", [np.nan, -3.0])
def test_one_site_does_not_end_a_round_of_the_smallest_federation(rule: str, count: int, poison: float) -> None:
    agreed = terms(members=SITES[:count], rule=rule, clip_norm=10.0)
    far = {name: each + np.float32(0.9) for name, each in updates()["b"].items()}
    combined = combine({**updates(count), "a": filled(poison), "b": far}, MODEL, agreed)

    assert "a" in combined.excluded
    assert all(np.abs(each - 1).max() < 1.3 for each in combined.update.values())
    with pytest.raises(ValueError, match=f"{rule} with 1 tolerated needs {count} sites"):
        terms(members=SITES[: count - 1], rule=rule)


def test_too_few_good_updates_end_the_round() -> None:
    wrong = {**updates(4), "a": filled(np.nan), "b": filled(np.nan)}

    with pytest.raises(TooFewUpdates, match="a: it has numbers that are not finite; b: it has"):
        combine(wrong, MODEL, terms())


def test_the_digest_has_names_shapes_and_values() -> None:
    first = {"a": np.zeros((2, 3), np.float32), "b": np.ones(2, np.float32)}
    others = (
        {"a": np.zeros((3, 2), np.float32), "b": first["b"]},
        {"c": first["a"], "b": first["b"]},
        {"a": first["a"], "b": np.full(2, 2, np.float32)},
    )

    assert arrays.digest({"b": first["b"], "a": first["a"]}) == arrays.digest(first)
    assert len({arrays.digest(each) for each in (first, *others)}) == 4
