"""Hardening: everything that parses foreign input is fuzzed, with no traceback, no hang and bounded memory."""

from tests.support.acceptance import line
from tests.support.expect import need
from tests.support.fuzz.__main__ import TARGETS, fuzz
from tests.support.log import Log

CASES = 100_000


@line("hardening", "fuzz")
def test_fuzzed_input_causes_no_traceback_and_no_hang(log: Log) -> str:
    """10^5 cases of each target; takes hours on a small computer."""
    outcomes = []
    for name in TARGETS:
        log(f"{name}: {CASES} cases")
        outcome = fuzz(name, CASES, seed=20)
        log(str(outcome))
        log.write(outcome.failure)
        outcomes.append(outcome)
    failed = [outcome for outcome in outcomes if outcome.failure or outcome.cases < CASES]
    need(not failed, "; ".join(f"{outcome.target}: {outcome.failure[-200:]}" for outcome in failed))
    return "; ".join(
        f"{each.target}: {each.cases} cases, {each.seconds:.0f} s, {each.peak_mib:.0f} MiB" for each in outcomes
    )
