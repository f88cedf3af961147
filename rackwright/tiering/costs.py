"""The monthly costs of storage tiers, beside the costs of the same data on the fastest tier alone."""

from collections.abc import Iterator
from dataclasses import dataclass

from rackwright.schema.tier_costs import Costs, TierCost
from rackwright.schema.units import format_size

TB = 10**12


@dataclass(frozen=True)
class TierMonth:
    """The cost of one tier for a month."""

    name: str
    bytes: int
    """Usable bytes of the tier."""
    per_tb: float
    """Cost of a TB for a month, without the tier's fixed cost."""
    total: float
    """Cost of the tier for a month."""


@dataclass(frozen=True)
class Comparison:
    """The costs of all tiers for a month, and those of the fastest tier with all the data."""

    currency: str
    fastest: str
    tiers: tuple[TierMonth, ...]
    total: float
    """Cost of all tiers."""
    fastest_alone: float
    """Cost of the fastest tier with the capacity of all tiers."""
    break_even_tb: float | None
    """Data in TB, divided over the tiers as declared, from which the tiers cost less; None if they never do."""
    break_even_price_per_tb: float
    """Price of a TB of the fastest tier, below which that tier alone costs less; 0 if no price is low enough."""

    @property
    def saving(self) -> float:
        """The saved share of the cost of the fastest tier alone; negative if the tiers cost more."""
        return 1 - self.total / self.fastest_alone if self.fastest_alone else 0.0

    def lines(self) -> Iterator[str]:
        """Yield the comparison as text."""
        for tier in self.tiers:
            rate = f"{tier.per_tb:.2f} {self.currency} per TB"
            yield f"{tier.name}: {format_size(tier.bytes)}, {rate}, {tier.total:.2f} {self.currency} a month"
        yield f"all tiers: {self.total:.2f} {self.currency} a month"
        yield f"{self.fastest} alone: {self.fastest_alone:.2f} {self.currency} a month"
        yield f"the tiers cost {abs(self.saving):.1%} {'less' if self.saving >= 0 else 'more'}"
        if self.break_even_tb is None:
            yield f"the tiers never cost less, because their data costs no less per TB than on {self.fastest}"
        else:
            yield f"the tiers cost less from {self.break_even_tb:.1f} TB of data"
        price = f"{self.break_even_price_per_tb:.2f} {self.currency} per TB"
        yield f"{self.fastest} alone would cost less below a price of {price}"


def compare(costs: Costs) -> Comparison:
    """Return the monthly costs of the tiers, and of the fastest tier alone."""
    fastest = costs.tiers[costs.fastest]
    others = [tier for name, tier in costs.tiers.items() if name != costs.fastest]
    months = tuple(_month(name, tier, costs.months) for name, tier in costs.tiers.items())
    total_tb = sum(tier.capacity for tier in costs.tiers.values()) / TB
    other_tb = sum(tier.capacity for tier in others) / TB
    other_cost = sum(_per_tb(tier, costs.months) * tier.capacity / TB for tier in others)
    fixed = sum(tier.monthly for tier in others)
    # saved with each TB of data, of which the other tiers hold their shares
    saved_per_tb = (_per_tb(fastest, costs.months) * other_tb - other_cost) / total_tb
    # the price p at which (p / months + monthly) x other_tb equals the costs of the other tiers
    price = costs.months * ((other_cost + fixed) / other_tb - fastest.monthly_per_tb)
    return Comparison(
        currency=costs.currency,
        fastest=costs.fastest,
        tiers=months,
        total=sum(month.total for month in months),
        fastest_alone=_per_tb(fastest, costs.months) * total_tb + fastest.monthly,
        break_even_tb=fixed / saved_per_tb if saved_per_tb > 0 else None,
        break_even_price_per_tb=max(price, 0.0),
    )


def _per_tb(tier: TierCost, months: int) -> float:
    return tier.price_per_tb / months + tier.monthly_per_tb


def _month(name: str, tier: TierCost, months: int) -> TierMonth:
    per_tb = _per_tb(tier, months)
    return TierMonth(name, int(tier.capacity), per_tb, per_tb * tier.capacity / TB + tier.monthly)
