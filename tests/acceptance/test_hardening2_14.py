"""Line 14: programs beside the passphrase are built of modules without a known hole."""

from tests.support.acceptance import line
from tests.support.log import Log
from tests.support.pytest_runs import run_tests


@line("hardening2", 14)
def test_programs_beside_the_passphrase_have_no_known_hole(log: Log) -> str:
    return run_tests(log, "tests/test_advisories.py")
