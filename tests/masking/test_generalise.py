"""Coarser forms of values: none shows more than its rule says."""

from decimal import Decimal
from typing import Any

import pytest

from rackwright.masking.generalise import WrongValue, bins, generalise, is_generalised
from rackwright.schema.masking import MaskedColumn

BINS = MaskedColumn(rule="generalise", to="bins", edges=(18, 40))
PREFIX = MaskedColumn(rule="generalise", to="prefix", length=3)


@pytest.mark.parametrize(
    "value", [True, "1_0", "inf", "-Infinity", "nan", float("inf"), "١٨", "0x10", "1e999", [], "9" * 400]
)
def test_a_value_that_is_no_number_has_no_bin(value: Any) -> None:
    with pytest.raises(WrongValue):
        generalise(BINS, value)


@pytest.mark.parametrize(
    ("value", "name"), [(17, "<18"), ("18", "18-<40"), (" 39.5 ", "18-<40"), (Decimal(40), ">=40")]
)
def test_a_number_has_a_bin(value: Any, name: str) -> None:
    assert generalise(BINS, value) == name and is_generalised(BINS, name)


def test_each_bin_has_a_name_of_its_own() -> None:
    assert bins((1, 1.0000001)) == ["<1", "1-<1.0000001", ">=1.0000001"]
    assert bins((1_000_000, 1_000_001))[1] == "1000000-<1000001"


@pytest.mark.parametrize(("value", "name"), [("80001", "800*"), ("800", "*"), ("Li", "*"), (8, "*")])
def test_a_prefix_is_no_whole_value(value: Any, name: str) -> None:
    assert generalise(PREFIX, value) == name and is_generalised(PREFIX, name)
    assert not is_generalised(PREFIX, f"{value}"[:2] + "*")
