"""Capacity and prices of storage tiers, from which `rackwright tier bench` computes monthly costs."""

from typing import Self

from pydantic import Field, model_validator

from rackwright.schema.base import Schema
from rackwright.schema.host import Name
from rackwright.schema.problem import Problem, hint, raise_any
from rackwright.schema.units import Size

YEARS_MAX = 20


class TierCost(Schema):
    """The capacity and the prices of one tier, of all hosts together."""

    capacity: Size
    """Usable bytes, after redundancy and copies."""
    price_per_tb: float = Field(ge=0, allow_inf_nan=False)
    """Price of a usable TB (10^12 bytes), paid once, with its share of redundancy and copies."""
    monthly_per_tb: float = Field(default=0.0, ge=0, allow_inf_nan=False)
    """Cost of a usable TB for each month: power and space, or the price of a cloud."""
    monthly: float = Field(default=0.0, ge=0, allow_inf_nan=False)
    """Cost of the tier for each month whatever its capacity, such as that of its own hosts."""


class Costs(Schema):
    """The costs of the tiers, which are compared with the costs of the fastest tier alone."""

    fastest: Name
    """Name of the tier that would hold all data otherwise, usually NVMe."""
    currency: str = Field(min_length=1, max_length=8, pattern=r"^[A-Za-z€$£¥]+$")
    """Currency of all prices."""
    months: int = Field(default=60, ge=1, le=12 * YEARS_MAX)
    """Months over which a price is spread."""
    tiers: dict[Name, TierCost]
    """The tiers by name; the object store is one of them, under any name."""

    @model_validator(mode="after")
    def _can_be_compared(self) -> Self:
        problems = []
        if len(self.tiers) < 2:
            expected = "a comparison has two tiers or more"
            problems.append(
                Problem(f"got the tiers {', '.join(self.tiers) or 'none'}", expected, "Declare the others", ("tiers",))
            )
        if self.fastest not in self.tiers:
            expected, help = (
                f"one of tiers: {', '.join(self.tiers) or 'none'}",
                hint(self.fastest, self.tiers, "Add it"),
            )
            problems.append(Problem(f"got {self.fastest}", expected, help, ("fastest",)))
        raise_any(problems)
        return self
