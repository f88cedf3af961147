"""The offset of a host's clock: what the time of a probe's end proves, whatever the probe takes."""

import pytest

from rackwright.audit.undeclared.table import RULES
from rackwright.facts.clock import with_clock_offset
from rackwright.facts.facts import Facts
from rackwright.facts.view import UnknownFact

STARTED, ENDED = 1_000_000.0, 1_000_020.0


@pytest.mark.parametrize(
    ("finished", "offset"),
    [
        (STARTED, 0),
        (STARTED + 15, 0),
        (ENDED, 0),
        (ENDED + 0.5, 0.5),
        (STARTED - 3600, -3600),
        (ENDED + 7200.25, 7200.25),
        (0.0, -STARTED),
    ],
)
def test_the_offset_is_the_least_that_explains_the_time(finished, offset):
    facts = with_clock_offset(Facts({"finished_at": finished, "taken_at": 5.0}), STARTED, ENDED)

    assert facts.clock_offset_seconds == offset
    assert facts.taken_at == 5.0


@pytest.mark.parametrize("raw", [{}, {"finished_at": None}, {"finished_at": "noon"}, {"finished_at": float("nan")}])
def test_the_clock_of_a_host_without_a_time_is_unknown(raw):
    facts = with_clock_offset(Facts(raw), STARTED, ENDED)

    with pytest.raises(UnknownFact):
        _ = facts.clock_offset_seconds


@pytest.mark.parametrize(
    ("offset", "text"),
    [
        (3604.9, "the clock of the host is 3600 s ahead of the clock of the computer that read it"),
        (-11.0, "the clock of the host is 10 s behind the clock of the computer that read it"),
        (10.0, None),
        (-10.0, None),
    ],
)
def test_a_wrong_clock_is_named_beyond_its_bound(offset, text):
    found = [finding.found for finding in RULES["RW-130"].search(Facts({"clock_offset_seconds": offset}), None)]

    assert found == ([] if text is None else [text])
