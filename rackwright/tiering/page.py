"""The page of `tier bench`: measured speeds, the time to load a model, and monthly costs, with plots."""

import datetime
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from rackwright import html_page
from rackwright.schema.units import format_size
from rackwright.tiering.bench import Speed
from rackwright.tiering.costs import TB, Comparison

FOLDER = Path(__file__).parent
FASTER, SAVING = 29, 0.32
"""Frequent promises about tiers: a load from NVMe takes 47 s instead of 23 min, and tiers cost 32 % less."""
STATES = {True: "ok", False: "differs", None: "not-compared"}
PLOT_WIDTH, PLOT_HEIGHT = 600, 240
"""Size of the plot of costs, in units of its own; the page stretches it."""


@dataclass(frozen=True)
class Place:
    """The speed of one tier or bucket, for reading a model."""

    name: str
    written: str
    """Bytes that are written per second, with their unit."""
    read: str
    load: str
    """Time to read the model."""
    share: float
    """Reading speed as a share of that of the fastest place, in percent."""


@dataclass(frozen=True)
class Promise:
    """A frequent promise about tiers, beside the figure of these."""

    text: str
    here: str
    holds: bool | None
    """None if nothing of it was measured or declared."""

    @property
    def state(self) -> str:
        return STATES[self.holds]

    @property
    def verdict(self) -> str:
        return {True: "✓ holds", False: "✗ does not hold", None: "· not measured"}[self.holds]


@dataclass(frozen=True)
class Line:
    """A straight line of the plot of costs, from no data to the most."""

    name: str
    label: str
    """Class of the style sheet."""
    first: float
    """Monthly cost without data."""
    last: float
    """Monthly cost of the most data."""


@dataclass(frozen=True)
class Plot:
    """Monthly costs by the amount of data, divided over the tiers as declared."""

    most_tb: float
    most_cost: float
    lines: tuple[Line, ...]
    break_even_tb: float | None

    def y(self, cost: float) -> float:
        """Return the distance of *cost* from the top of the plot."""
        return round(PLOT_HEIGHT * (1 - cost / self.most_cost), 1) if self.most_cost else float(PLOT_HEIGHT)

    def x(self, data_tb: float) -> float:
        """Return the distance of *data_tb* from the left of the plot."""
        return round(PLOT_WIDTH * data_tb / self.most_tb, 1)


def render(
    stack: str, speeds: Sequence[Speed], costs: Comparison | None, model_bytes: int, at: datetime.datetime
) -> str:
    """Return the page of the measurements of *stack*.

    Args:
        costs: The monthly costs; None if the fleet declares no costs.
        model_bytes: Size of the model whose time to load is shown.
        at: When the measurements ended, in UTC.
    """
    names = {
        "stack": stack,
        "at": at,
        "measured": format_size(speeds[0].bytes) if speeds else "",
        "model": format_size(model_bytes),
        "places": tuple(_places(speeds, model_bytes)),
        "promises": (_promise_of_loads(speeds), _promise_of_costs(costs)),
        "costs": costs,
        "plot": None if costs is None else _plot(costs),
        "width": PLOT_WIDTH,
        "height": PLOT_HEIGHT,
    }
    filters = {"size": format_size, "money": "{:,.2f}".format}
    return html_page.render(FOLDER, "page.html.j2", names, style=(FOLDER / "page.css").read_text(), filters=filters)


def _rate(speed: Speed) -> float:
    """Return the bytes that are read per second."""
    return speed.bytes / speed.read_seconds


def _places(speeds: Sequence[Speed], model_bytes: int) -> Iterator[Place]:
    fastest = max(map(_rate, speeds), default=1.0)
    for speed in sorted(speeds, key=_rate, reverse=True):
        written = f"{format_size(speed.bytes / speed.write_seconds)}/s"
        load = format_seconds(model_bytes / _rate(speed))
        yield Place(
            speed.place, written, f"{format_size(_rate(speed))}/s", load, round(100 * _rate(speed) / fastest, 1)
        )


def format_seconds(seconds: float) -> str:
    """Return ``47 s``, ``23 min 10 s`` or ``3 h 05 min``."""
    if seconds < 60:
        return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.2g} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02} min"


def _promise_of_loads(speeds: Sequence[Speed]) -> Promise:
    text = f"Loads from the fastest tier are {FASTER} times faster than from the slowest (47 s instead of 23 min)"
    if len(speeds) < 2:
        return Promise(text, "less than two places were measured", None)
    slowest, fastest = min(speeds, key=_rate), max(speeds, key=_rate)
    times = _rate(fastest) / _rate(slowest)
    return Promise(text, f"{times:.1f} times: {fastest.place} beside {slowest.place}", times >= FASTER)


def _promise_of_costs(costs: Comparison | None) -> Promise:
    text = f"Tiers cost {SAVING:.0%} less than the fastest tier alone"
    if costs is None:
        return Promise(text, "the fleet declares no costs", None)
    word = "less" if costs.saving >= 0 else "more"
    return Promise(text, f"{abs(costs.saving):.1%} {word} than {costs.fastest} alone", costs.saving >= SAVING)


def _plot(costs: Comparison) -> Plot:
    data_tb = sum(tier.bytes for tier in costs.tiers) / TB
    most_tb = 1.25 * max(data_tb, costs.break_even_tb or 0.0)
    fixed = {tier.name: tier.total - tier.per_tb * tier.bytes / TB for tier in costs.tiers}
    per_tb = sum(tier.per_tb * tier.bytes / TB for tier in costs.tiers) / data_tb
    [fastest] = [tier for tier in costs.tiers if tier.name == costs.fastest]
    first, alone = sum(fixed.values()), fixed[costs.fastest]
    lines = (
        Line("all tiers", "tiers", first, first + per_tb * most_tb),
        Line(f"{costs.fastest} alone", "alone", alone, alone + fastest.per_tb * most_tb),
    )
    return Plot(most_tb, max(line.last for line in lines), lines, costs.break_even_tb)
