"""The page of `tier bench`: promises beside what was measured, and nothing from outside."""

import datetime
import re
from collections.abc import Sequence

import pytest

from rackwright.schema.tier_costs import Costs
from rackwright.tiering import page
from rackwright.tiering.bench import Speed
from rackwright.tiering.costs import TB, Comparison, compare
from tests.tiering.test_costs import costs

GIB = 2**30
AT = datetime.datetime(2026, 11, 29, 8, 0, tzinfo=datetime.UTC)
HOT, COLD = Speed("gpu-01:/srv/hot", 8 * GIB, 2.0, 1.0), Speed("s3://models from gpu-01", 8 * GIB, 40.0, 40.0)


def text_of(speeds: Sequence[Speed] = (), declared: Costs | None = None) -> str:
    """Return the page without its tags."""
    found: Comparison | None = None if declared is None else compare(declared)
    html = page.render("rack", speeds, found, 100 * GIB, AT)
    return " ".join(re.sub(r"<style>.*?</style>|<[^>]+>", " ", html, flags=re.S).split())


def test_the_time_to_load_a_model_follows_from_the_speed_of_each_place():
    text = text_of((COLD, HOT))

    assert text.index("gpu-01:/srv/hot 4GiB/s 8GiB/s 12 s") < text.index("214.7MB/s 214.7MB/s 8 min 20 s")
    assert "load of 100GiB" in text
    assert "files of 8GiB until 2026-11-29 08:00:00 UTC" in text


@pytest.mark.parametrize(("seconds", "verdict"), [(29.0, "✓ holds"), (28.9, "✗ does not hold")])
def test_loads_are_compared_with_the_promise(seconds, verdict):
    text = text_of((HOT, Speed("s3://models from gpu-01", 8 * GIB, 1.0, seconds)))

    assert f"{verdict} : Loads from the fastest tier are 29 times faster" in text
    assert f"Here: {seconds:.1f} times: gpu-01:/srv/hot beside s3://models from gpu-01." in text


@pytest.mark.parametrize(
    ("changes", "verdict", "here"),
    [
        ({}, "✓ holds", "42.0% less than hot alone"),
        ({"cold_monthly": 80}, "✗ does not hold", "30.3% less than hot alone"),
        ({"cold_monthly": 300}, "✗ does not hold", "43.0% more than hot alone"),
    ],
)
def test_costs_are_compared_with_the_promise(changes, verdict, here):
    assert f"{verdict} : Tiers cost 32% less than the fastest tier alone. Here: {here}." in text_of(
        (), costs(**changes)
    )


def test_what_was_not_measured_or_declared_holds_no_promise():
    text = text_of((HOT,))

    assert text.count("· not measured") == 2
    assert "less than two places were measured" in text
    assert "the fleet declares no costs" in text
    assert "Costs of a month" not in text


def test_the_lines_of_the_plot_meet_at_the_break_even_amount():
    found = compare(costs())
    plot = page._plot(found)
    tiers, alone = plot.lines
    at = found.break_even_tb / plot.most_tb

    def cost(line: page.Line, share: float) -> float:
        return line.first + share * (line.last - line.first)

    assert cost(tiers, at) == pytest.approx(cost(alone, at))
    declared_tb = sum(tier.bytes for tier in found.tiers) / TB
    assert cost(tiers, declared_tb / plot.most_tb) == pytest.approx(found.total)
    assert cost(alone, declared_tb / plot.most_tb) == pytest.approx(found.fastest_alone)
    assert (plot.y(plot.most_cost), plot.y(0), plot.x(plot.most_tb)) == (0, page.PLOT_HEIGHT, page.PLOT_WIDTH)


def test_tiers_that_never_cost_less_have_no_break_even_line():
    same = costs(warm_price_per_tb=120, warm_monthly_per_tb=1, cold_price_per_tb=120, cold_monthly_per_tb=1)

    text = text_of((), same)

    assert "The tiers never cost less" in text
    assert "dotted line" not in text


def test_a_page_has_no_script_and_shows_names_as_text():
    html = page.render("<script>alert(1)</script>", (HOT, COLD), compare(costs()), GIB, AT)
    [policy] = re.findall(r'Content-Security-Policy" content="([^"]+)"', html)

    assert "script-src" not in policy and policy.startswith("default-src 'none'; style-src")
    assert "<script" not in html
    assert not re.search(r"(href|src|url)\s*[=(]", html)
    assert " style=" not in html  # the policy would not allow it


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.512, "0.51 s"),
        (47.2, "47 s"),
        (59.7, "60 s"),
        (1380, "23 min 00 s"),
        (3599.7, "1 h 00 min"),
        (11100, "3 h 05 min"),
    ],
)
def test_times(seconds, text):
    assert page.format_seconds(seconds) == text
