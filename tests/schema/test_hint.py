"""Proposals for wrong names: only what is valid in that place."""

import re
from pathlib import Path

import pytest

from rackwright.schema.problem import hint

WRONG = Path(__file__).parents[1] / "fleet" / "wrong"


@pytest.mark.parametrize(
    ("word", "choices", "taken", "proposal"),
    [
        ("gpu-03", ["gpu-01", "gpu-02"], ["gpu-02", "gpu-03"], "Write gpu-01"),
        ("gpu-03", ["gpu-01", "gpu-02"], ["gpu-01", "gpu-02"], "Correct it"),
        ("fabric2", ["fabric0", "fabric1"], ["fabric0", "fabric1"], "Correct it"),
        ("alhpa", ["alpha"], [], "Write alpha"),
        ("alhpa", [], [], "Correct it"),
        ("x", ["alpha"], [], "Correct it"),
        ("h100", ["h200", "h100-pcie", "h100-sxm"], [], "Write h100-pcie or h100-sxm"),
    ],
)
def test_a_proposal_is_a_choice_that_does_not_stand_there_already(word, choices, taken, proposal):
    assert hint(word, choices, "Correct it", taken) == proposal


def test_no_message_proposes_a_name_that_its_list_has_already():
    """
    Each recorded message of a wrong list quotes its own fleet.
    """
    text = (WRONG / "placement-rules.expected").read_text()
    assert "Write gpu-01" in text and not re.search("Write gpu-02", text)
