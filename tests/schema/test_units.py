"""Sizes: what is written comes out in bytes, and what comes out as text goes in again."""

import copy
import pickle
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rackwright.schema.host import Drive
from rackwright.schema.problem import Problem
from rackwright.schema.units import EXACT, LARGEST, UNITS, Size, format_size, format_time, parse_size, parse_time


@pytest.mark.parametrize(
    ("written", "size_bytes"),
    [
        ("3.84TB", 3_840_000_000_000),
        ("12TB", 12 * 10**12),
        ("1TiB", 2**40),
        ("512KiB", 524_288),
        ("512 KiB", 524_288),
        ("0.5KiB", 512),
        ("1B", 1),
        ("1kB", 1000),
    ],
)
def test_a_size_is_a_number_and_a_unit(written: str, size_bytes: int) -> None:
    assert Size(written) == parse_size(written) == size_bytes


@pytest.mark.parametrize(
    ("written", "got"),
    [
        ("3.84", "got 3.84"),
        (512, "got 512"),
        (3.84, "got 3.84"),
        ("3.84tb", "got the unit 'tb'"),
        ("3.84Tbit", "got the unit 'Tbit'"),
        ("TB", "got 'TB'"),
        ("-1TB", "got '-1TB'"),
        ("1,5TB", "got '1,5TB'"),
        ("1e3TB", "got '1e3TB'"),
        ("٣TB", "got '٣TB'"),
        ("0TB", "got '0TB'"),
        ("0.3B", "got '0.3B'"),
        ("", "got ''"),
        (True, "got True"),
        (None, "got None"),
        (["1TB"], "got ['1TB']"),
    ],
)
def test_anything_else_is_refused(written: object, got: str) -> None:
    with pytest.raises(Problem) as caught:
        parse_size(written)
    assert caught.value.diagnostic.problem == got


@given(st.integers(1, 999), st.integers(0, 3), st.sampled_from([*UNITS]))
def test_four_digits_go_through_a_text_and_back(whole: int, decimals: int, unit: str) -> None:
    number = Decimal(whole) / 10**decimals
    try:
        size = parse_size(f"{number}{unit}")
    except Problem:  # no whole number of bytes
        assert number * UNITS[unit] % 1
        return
    if "i" not in unit:
        assert parse_size(format_size(size)) == size


@given(st.integers(1, 10**19))
def test_any_size_is_written_to_four_digits(size_bytes: int) -> None:
    text = format_size(size_bytes)
    assert abs(parse_size(text) - size_bytes) * 2000 <= size_bytes
    assert sum(letter.isdigit() for letter in text) <= 4 or size_bytes >= 10**19 / 2 or text.endswith(("PB", "PiB"))


@given(st.integers(1, 1023), st.sampled_from([unit for unit in UNITS if "i" in unit]))
def test_a_power_of_1024_is_written_as_one(count: int, unit: str) -> None:
    size = count * UNITS[unit]
    if size < 1000 * UNITS[unit.replace("i", "").replace("K", "k")]:
        assert parse_size(format_size(size)) == size


@given(st.integers(1, 10**16))
def test_a_size_can_be_copied_and_pickled(size_bytes: int) -> None:
    size = Size(f"{size_bytes}B")
    assert copy.deepcopy(size) == pickle.loads(pickle.dumps(size)) == size
    assert isinstance(copy.copy(size), Size)
    assert Size(size) is size


@pytest.mark.parametrize(("written", "seconds"), [("1min", 60), ("15min", 900), ("6h", 21600), ("24h", 86400)])
def test_a_span_of_time_is_a_number_and_a_unit(written: str, seconds: int) -> None:
    assert parse_time(written) == seconds


@pytest.mark.parametrize("written", ["15", "15m", "0min", "-1h", "1.5h", "15 min", "h", ""])
def test_what_is_no_span_of_time_is_reported(written: str) -> None:
    with pytest.raises(Problem, match="it is a number of min or h"):
        parse_time(written)


@pytest.mark.parametrize(("seconds", "expected"), [(0, "1 min"), (59, "1 min"), (60, "2 min"), (86460, "24 h 02 min")])
def test_a_span_of_time_is_reported_in_minutes(seconds: int, expected: str) -> None:
    assert format_time(seconds) == expected


@pytest.mark.parametrize("written", [f"{'9' * 400}GB", "18446744073709551616B"])
def test_a_size_that_no_device_has_is_refused(written):
    with pytest.raises(Problem) as problem:
        parse_size(written)
    assert (
        problem.value.diagnostic.expected == "a size is less than 2^64 bytes"
        and len(problem.value.diagnostic.problem) < 60
    )


@pytest.mark.parametrize("written", [f"{'9' * 5000}min", "999999999h", "87841h"])
def test_a_time_of_more_than_ten_years_is_refused(written):
    with pytest.raises(Problem) as problem:
        parse_time(written)
    assert problem.value.diagnostic.expected == "it is at most ten years"


@given(st.integers(min_value=1, max_value=LARGEST - 1))
def test_a_size_in_a_spec_is_read_back_to_the_byte(size_bytes: int) -> None:
    """
    A state has it as a fleet does, with a unit; JSON without that context has bytes.
    """
    drive = Drive(serial="S1", size=Size(f"{size_bytes}B"))

    assert Drive.model_validate_json(drive.model_dump_json(context=EXACT)) == drive
    assert drive.model_dump(mode="json")["size"] == size_bytes
