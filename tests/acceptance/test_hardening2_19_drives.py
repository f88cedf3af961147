"""Line 19, drives: three findings of the first review about drives, tried in other forms."""

from tests.support.acceptance import line
from tests.support.log import Log
from tests.support.pytest_runs import run_tests


@line("hardening2", 19, "drives")
def test_drives_lose_nothing_by_other_writes_moments_and_names(log: Log) -> str:
    """Consents end with other writes, steps with what comes at their moment, and units find moved drives."""
    return run_tests(log, "tests/facts/test_content_variants.py", "tests/hosts/test_drive_variants.py")
