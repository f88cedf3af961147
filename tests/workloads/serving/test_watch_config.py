"""What follows from one look after another: what it is held against, what is kept, and what may serve again."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workloads.serving.watch_config import (
    DAY,
    AccuracyReading,
    AccuracyRecord,
    PreviousRelease,
    choose_rollback,
    read,
    with_reading,
)

NOW = 1_800_000_000
HOUR = 3600
RELEASES = st.sampled_from(["a", "b", "c"])
READINGS = st.builds(
    AccuracyReading, at=st.integers(NOW - 4 * DAY, NOW + DAY), release=RELEASES, version=st.just("v"),
    rows=st.sampled_from(["x", "y"]), accuracy=st.floats(0, 1),
)  # fmt: skip


def reading(at: int = NOW, accuracy: float = 0.95, rows: str = "rows", release: str = "a") -> AccuracyReading:
    return AccuracyReading(at=at, release=release, version="v", rows=rows, accuracy=accuracy)


def after(*readings: AccuracyReading, change: float = 0.02, least: float = 0.9) -> AccuracyRecord:
    noted = AccuracyRecord(every_seconds=900, change=change)
    for each in readings:
        noted = with_reading(noted, each, least)
    return noted


def test_a_first_look_has_not_moved() -> None:
    noted = after(reading())

    assert (noted.before, noted.drift, noted.has_drifted, noted.is_low) == (None, None, False, False)


@pytest.mark.parametrize(
    ("ages", "before"),
    [
        ([30, 25, 24, 23, 1], 24),
        ([30, 25, 23, 1], 25),
        ([23, 1], 23),
        ([50, 1], 1),
        ([50], None),
    ],
    ids=["a day ago", "a little more", "less, where there is no more", "not the day before that", "long ago"],
)
def test_it_is_held_against_the_day_before(ages: list[int], before: int | None) -> None:
    noted = after(*(reading(NOW - age * HOUR) for age in ages), reading())

    assert (noted.before and (NOW - noted.before.at) / HOUR) == before


def test_other_rows_say_nothing() -> None:
    noted = after(reading(NOW - HOUR, 0.5, "others"), reading())

    assert noted.before is None


def test_a_reading_of_a_clock_that_was_put_back_is_no_history() -> None:
    assert after(reading(NOW + HOUR, 0.5), reading()).before is None


@pytest.mark.parametrize(
    ("accuracy", "moved"), [(0.97, False), (0.93, False), (0.971, True), (0.929, True), (0.95, False)]
)
def test_it_has_moved_where_it_is_more_than_allowed_up_or_down(accuracy: float, moved: bool) -> None:
    """
    0.97 - 0.95 is 0.020000000000000018 to a computer, and not more than 0.02.
    """
    assert after(reading(NOW - DAY), reading(accuracy=accuracy)).has_drifted is moved


def test_a_day_later_it_has_not_moved_any_more() -> None:
    steps = [reading(NOW + hour * HOUR, 0.95 if hour < 0 else 0.9) for hour in range(-30, 26)]

    assert [after(*steps[: 31 + hours]).has_drifted for hours in (-1, 0, 23, 24)] == [False, True, True, False]


@given(st.lists(READINGS, max_size=40), READINGS)
def test_what_is_kept_is_bounded_and_is_what_was(readings: list[AccuracyReading], last: AccuracyReading) -> None:
    noted = after(*readings, last)
    kept = noted.readings

    assert {*kept} <= {*readings, last}
    assert kept[-1] == last == noted.found
    assert all(last.at - 2 * DAY < each.at < last.at for each in kept[:-1])
    old = [each for each in kept if each.at <= last.at - DAY]
    assert len(old) == len({each.rows for each in old})
    assert noted.before is None or (noted.before in kept and noted.before.rows == last.rows)


@given(READINGS, st.floats(0, 1), st.booleans(), st.builds(
    PreviousRelease, st.one_of(st.none(), RELEASES), st.booleans(), st.booleans(), st.one_of(st.none(), RELEASES)
))  # fmt: skip
def test_only_what_may_be_right_serves_again(
    found: AccuracyReading, least: float, roll_back: bool, former: PreviousRelease
) -> None:
    to, why_not = choose_rollback(after(found, least=least), roll_back, former)
    may = (
        former.is_installed
        and former.has_canary
        and former.release not in (None, found.release, former.rejected_release)
    )

    assert (to is not None) == (found.accuracy < least and roll_back and may)
    assert to in (None, former.release)
    assert bool(why_not) == (to is None and found.accuracy < least)


@pytest.mark.parametrize("content", [None, "", "{", '{"found": 1}'])
def test_of_a_file_that_is_none_nothing_is_known(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "watch.json").write_text(content)

    assert read(tmp_path / "watch.json") == AccuracyRecord()


def test_what_another_code_has_written_beside_is_left_out(tmp_path: Path) -> None:
    noted = after(reading(NOW - HOUR), reading())
    (tmp_path / "watch.json").write_text(noted.model_dump_json()[:-1] + ', "colour": "red"}')

    assert read(tmp_path / "watch.json") == noted
