"""The clock, as chronyc reports it."""

import pytest

from rackwright.facts.probe import measures
from rackwright.facts.probe.observe import ReadError

TRACKING = (
    "0A000203,10.0.2.3,3,1732525000.123456789,-0.000012345,0.004500000,0.000031,-12.3,0.0,0.1,0.02,0.001,64.5,{}\n"
)


@pytest.fixture
def chronyc(monkeypatch):
    """Return a function that sets what chronyc prints, or how it fails."""

    def set_answer(answer):
        def tool(*argv):
            if isinstance(answer, Exception):
                raise answer
            return answer

        monkeypatch.setattr(measures, "run_tool", tool)

    return set_answer


def test_the_offset_is_how_wrong_the_clock_is_now_in_either_direction(chronyc):
    chronyc(TRACKING.format("Normal"))

    assert measures.measures() == {"chrony.offset_seconds": 0.000012345, "chrony.stratum": 3}


def test_a_clock_that_was_never_compared_is_not_a_right_one(chronyc):
    chronyc("7F7F0101,,0,0.0,0.000000000,0.000000000,0.0,0.0,0.0,0.0,1.0,1.0,0.0,Not synchronised\n")

    assert set(map(str, measures.measures().values())) == {"{'unknown': 'chronyd is not synchronised'}"}


def test_a_clock_that_is_compared_with_itself_is_not_a_right_one(chronyc):
    chronyc("7F7F0101,,8,1732525000.1,0.000000000,0.000000000,0.0,0.0,0.0,0.0,0.0,0.0,0.0,Normal\n")

    assert measures.measures() == {
        "chrony.offset_seconds": {"unknown": "chronyd has no other clock as its reference"},
        "chrony.stratum": 8,
    }


@pytest.mark.parametrize(
    "answer",
    [
        ReadError("chronyc is not installed"),
        ReadError("chronyc ended with 1: 506 Cannot talk to daemon"),
        "",
        "a,b\n",
    ],
)
def test_without_an_answer_nothing_is_measured(chronyc, answer):
    chronyc(answer)

    found = measures.measures()

    assert [value.keys() for value in found.values()] == [{"unknown"}] * 2
    if isinstance(answer, Exception):
        assert found["chrony.stratum"] == {"unknown": str(answer)}
