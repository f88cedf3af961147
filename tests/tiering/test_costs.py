"""The monthly costs of tiers, and the points from which they cost less than the fastest tier alone."""

from typing import Any

import pytest
from pydantic import ValidationError

from rackwright.schema.tier_costs import Costs
from rackwright.tiering.costs import TB, compare


def costs(**changes: Any) -> Costs:
    """Return tiers of 10, 30 and 60 TB, with *changes* of single values, such as ``cold_monthly=5``."""
    tiers: dict[str, dict[str, Any]] = {
        "hot": {"capacity": "10TB", "price_per_tb": 120, "monthly_per_tb": 1},
        "warm": {"capacity": "30TB", "price_per_tb": 60, "monthly_per_tb": 0.5},
        "cold": {"capacity": "60TB", "price_per_tb": 24, "monthly_per_tb": 0.5, "monthly": 45},
    }
    for key, value in changes.items():
        tier, _, name = key.partition("_")
        tiers[tier][name] = value
    return Costs.model_validate({"fastest": "hot", "currency": "EUR", "months": 60, "tiers": tiers})


def test_costs_for_a_month():
    found = compare(costs())

    assert [tier.total for tier in found.tiers] == pytest.approx([10 * 3, 30 * 1.5, 60 * 0.9 + 45])
    assert (found.total, found.fastest_alone) == pytest.approx((174, 300))
    assert found.saving == pytest.approx(0.42)


def scaled(data_tb: float) -> Costs:
    shares = {"hot": 0.1, "warm": 0.3, "cold": 0.6}
    return costs(**{f"{name}_capacity": f"{int(share * data_tb * TB)}B" for name, share in shares.items()})


def test_both_cost_the_same_at_the_break_even_amount_of_data():
    amount = compare(costs()).break_even_tb
    assert amount == pytest.approx(45 / (3 - 0.1 * 3 - 0.3 * 1.5 - 0.6 * 0.9))

    same = compare(scaled(amount))

    assert same.total == pytest.approx(same.fastest_alone)
    assert compare(scaled(amount / 2)).saving < 0 < compare(scaled(amount * 2)).saving


def test_both_cost_the_same_at_the_break_even_price():
    price = compare(costs()).break_even_price_per_tb

    same = compare(costs(hot_price_per_tb=price))

    assert same.total == pytest.approx(same.fastest_alone)
    assert compare(costs(hot_price_per_tb=price - 1)).saving < 0 < compare(costs(hot_price_per_tb=price + 1)).saving


def test_tiers_that_cost_as_much_as_the_fastest_never_cost_less():
    found = compare(costs(warm_price_per_tb=120, warm_monthly_per_tb=1, cold_price_per_tb=120, cold_monthly_per_tb=1))

    assert found.break_even_tb is None
    assert "the tiers never cost less, because their data costs no less per TB than on hot" in found.lines()


def test_no_price_is_low_enough_if_the_power_of_the_fastest_costs_more():
    assert compare(costs(hot_monthly_per_tb=50)).break_even_price_per_tb == 0


def test_the_text_says_what_costs_less():
    assert list(compare(costs()).lines()) == [
        "hot: 10TB, 3.00 EUR per TB, 30.00 EUR a month",
        "warm: 30TB, 1.50 EUR per TB, 45.00 EUR a month",
        "cold: 60TB, 0.90 EUR per TB, 99.00 EUR a month",
        "all tiers: 174.00 EUR a month",
        "hot alone: 300.00 EUR a month",
        "the tiers cost 42.0% less",
        "the tiers cost less from 26.3 TB of data",
        "hot alone would cost less below a price of 36.00 EUR per TB",
    ]


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"fastest": "nvme"}, "got nvme"),
        ({"tiers": {"hot": {"capacity": "1TB", "price_per_tb": 1}}}, "got the tiers hot"),
        ({"months": 0}, "greater than or equal to 1"),
    ],
)
def test_costs_that_cannot_be_compared_are_refused(changes, problem):
    plain = {
        "fastest": "hot",
        "currency": "EUR",
        "tiers": {name: {"capacity": "1TB", "price_per_tb": 1} for name in ("hot", "cold")},
    }
    with pytest.raises(ValidationError, match=problem):
        Costs.model_validate({**plain, **changes})
