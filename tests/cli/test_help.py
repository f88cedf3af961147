"""Help texts on a terminal of 80 columns: their paragraphs fill the lines."""

from itertools import pairwise

import pytest
from typer.testing import CliRunner

from rackwright.cli.app import app

COLUMNS = 80


@pytest.mark.parametrize("command", ["audit", "init", "rebuild", "drive erase", "tier move"])
def test_the_paragraphs_of_a_help_text_fill_the_lines(command: str) -> None:
    done = CliRunner().invoke(app, [*command.split(), "--help"], env={"TERMINAL_WIDTH": str(COLUMNS)})
    text = done.stdout.partition("Usage:")[2].partition("╭")[0]
    lines = [line.strip() for line in text.splitlines()[1:]]

    assert done.exit_code == 0
    assert len(lines) > 3
    for line, following in pairwise(lines):
        if line and following:
            assert len(f" {line} {following.split()[0]} ") > COLUMNS
