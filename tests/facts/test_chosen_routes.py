"""The kernel is asked which route it takes, in a network namespace with rules that lead elsewhere."""

import os

import pytest

from tests.support.chosen_routes import DIVERTED, RIGHT, SILENT, chosen

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root")


def test_without_rules_the_kernel_takes_the_main_table() -> None:
    assert chosen("") == RIGHT


@pytest.mark.parametrize("name", DIVERTED)
def test_a_rule_that_leads_elsewhere_shows(name: str) -> None:
    change, destination, answer = DIVERTED[name]

    assert answer in chosen(change)[destination]


@pytest.mark.parametrize("name", SILENT)
def test_a_rule_that_changes_nothing_does_not_show(name: str) -> None:
    assert chosen(SILENT[name]) == RIGHT
