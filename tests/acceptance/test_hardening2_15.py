"""Line 15: a token of kubeadm lives for a minute, and texts of pods decide about their own pod alone."""

from tests.support.acceptance import line
from tests.support.log import Log
from tests.support.pytest_runs import run_tests

TESTS = ("test_the_token_that_kubeadm_makes", "test_a_drain")


@line("hardening2", 15)
def test_no_token_stays_and_texts_of_pods_decide_for_themselves_alone(log: Log) -> str:
    return run_tests(log, "tests/roles/test_kubernetes.py", "-k", " or ".join(TESTS))
