"""Line 1: the word check of `make lint` finds nothing, and no name is of the old dialect."""

import sys

from tests.support.acceptance import line
from tests.support.expect import need
from tests.support.log import ROOT, Log

DIALECT = "told|_told|_said"


@line("house", 1)
def test_names_and_sentences_are_plain(log: Log) -> str:
    """The word check, and a search for names of the dialect."""
    checked = log.run([sys.executable, "-m", "tests.words"], ROOT)
    need(checked.returncode == 0, f"the word check finds: {checked.stdout}")
    need("tests.words" in (ROOT / "Makefile").read_text(), "make lint does not run the word check")
    found = log.run(["git", "grep", "-nwE", DIALECT, "--", "rackwright", "workloads"], ROOT)
    need(found.returncode == 1, f"names of the dialect: {found.stdout}")
    return "no finding, no name of the dialect"
