"""Texts that were false or dangerous: the rescue timer of the host, the ends of commands, and proposals."""

import os

import pytest

from rackwright.audit.undeclared.table import RULES
from tests.support import systemd_machine
from tests.support.acceptance import line
from tests.support.log import Log
from tests.support.pytest_runs import run_tests

ALL_ENDS = "RACKWRIGHT_TESTS_ALL_ENDS"
"""Variable with which tests/pulumi/test_ends.py tries all ends."""


@line("hardening2", 18, part="rescue")
def test_the_rescue_timer_keeps_its_deadline_and_no_rule_reports_it(log: Log) -> str:
    """A rescue timer keeps its deadline through reloads and restarts, and rules know it by record and text."""
    if lacks := systemd_machine.lacks():
        pytest.skip(lacks)
    rules = "tests/audit/undeclared/test_descriptions.py"
    names = ("rescue_timer", "described_with_its_deadline", "needs_the_record")
    deadline = run_tests(log, "tests/kinds/test_guard.py")
    known = run_tests(log, rules, "-k", " or ".join(names))
    moving = run_tests(log, "tests/test_units.py", "-k", "no_deadline_moves")
    return (
        f"a real systemd: {deadline}; {len(RULES)} rules, hostile units of that name: {known}; "
        f"no other relative deadline: {moving}"
    )


@line("hardening2", 18, part="ends")
def test_each_end_of_a_command_has_its_status(log: Log) -> str:
    """Signals, killed programs, closed and full outputs, locales and errors: each end has one exit status."""
    os.environ[ALL_ENDS] = "1"
    try:
        ends = run_tests(log, "tests/pulumi/test_ends.py")
    finally:
        del os.environ[ALL_ENDS]
    table = run_tests(log, "tests/cli/test_ending.py", "tests/cli/test_exit_status.py")
    return f"ends of `up` below a real pulumi: {ends}; other ends and commands: {table}"


@line("hardening2", 18, part="proposals")
def test_a_proposal_is_valid_and_a_second_salt_is_named(log: Log) -> str:
    """A proposed name is valid in its place, and a salt that a copied project makes is named."""
    tests = ("tests/schema/test_hint.py", "tests/cli/test_new_salt.py", "tests/fleet/test_wrong_runs.py")
    return run_tests(log, *tests, "-k", "propos or salt")
