"""Pulumi's own output in a log: nothing new is lost, and nothing is repeated."""

import os
from io import StringIO

from rackwright.cli import pulumi_output

ROLE = "  +  rackwright:software:Role alpha/base "
LINES = [
    "Updating (lab):",
    "@ updating......",
    f"{ROLE}creating (0s) ",
    f"{ROLE}creating (1s) waiting for alpha to be as declared otherwise",
    "@ updating....",
    f"{ROLE}creating (2s) step 1/2: note in the owner file",
    f"{ROLE}creating (3s) step 2/2: play role base",
    f"{ROLE}creating (9s) step 2/2: play role base: Install the missing packages",
    f"{ROLE}creating (10s) waiting for alpha to be as declared otherwise",
    "  +  rackwright:software:Role beta/base creating (10s) step 2/2: play role base",
    f"{ROLE}creating (28s) warning: by hand: set it",
    f"{ROLE}created (28s) warning: by hand: set it",
    "Diagnostics:",
    "  rackwright:software:Role (alpha/base):",
    "    warning: by hand: set it",
    "    warning: by hand: set it",
    "",
    "",
    "Resources:",
    "    + 7 created",
]
LEFT_OUT = (1, 4, 7, 8)


def test_a_step_has_one_line_and_results_have_all_of_theirs():
    repetitions = pulumi_output.Repetitions()

    shown = [line for line in LINES if not repetitions.is_repeated(line)]

    assert shown == [line for number, line in enumerate(LINES) if number not in LEFT_OUT]


def test_the_lines_of_a_program_are_passed_on_to_its_end():
    """A reader that is gone does not stop pulumi in the middle of a change."""
    for stream in (StringIO(), _Closed()):
        reading, writing = os.pipe()
        with os.fdopen(reading, "rb") as output, pulumi_output.passed_on(output, stream):
            os.write(writing, b"Updating (lab):\n@ updating....\n" + b"x" * 40 + b"\nat the end")
            os.close(writing)
        if not isinstance(stream, _Closed):
            assert stream.getvalue().splitlines() == ["Updating (lab):", "x" * 40, "at the end"]


class _Closed(StringIO):
    def write(self, text: str) -> int:
        raise BrokenPipeError
