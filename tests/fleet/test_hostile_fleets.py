"""Texts of whole fleets with a character that a file of root would read as its own."""

import pytest

from rackwright.fleet.source import format_keys, read
from tests.support.hostile_texts import FLEETS, fleets_with, has_lines, leaves, refusal

SOME = [path for path in FLEETS if path.name in ("rack.yaml", "vendors.yaml", "shared.yaml")]
"""A few fleets here. `make accept ONLY=hardening2.7` tries all, with all characters."""


@pytest.mark.parametrize("path", SOME, ids=lambda path: path.name)
def test_no_text_of_a_fleet_has_a_second_line(path):
    cases = list(fleets_with(path, "\n"))
    refusals = {format_keys(keys): refusal(path, fleet) for keys, fleet in cases}

    assert len(cases) > 5
    assert [keys for keys, refused in refusals.items() if refused is None] == []
    assert all(each.where.startswith(f"{path}:") for refused in refusals.values() for each in refused.diagnostics)


@pytest.mark.parametrize("path", FLEETS, ids=lambda path: path.name)
def test_the_fleets_themselves_are_accepted(path):
    data = read(path).data

    assert [text for keys, text in leaves(data) if not has_lines(keys, text) and not text.isprintable()] == []
    assert refusal(path, data) is None
