"""A state may only be moved aside if the stack loses nothing by it."""

import json
from dataclasses import replace
from typing import Any

import pytest

from rackwright.audit import report
from rackwright.cli import set_aside
from rackwright.errors import ChangeRefused, Diagnostic, HostUnreachable
from rackwright.facts.facts import Facts
from rackwright.provider.state_format import PROPERTY, STATE_FORMAT
from rackwright.stack import declare
from tests.support.recorded_hosts import STACK, blank, recorded

HOSTS = tuple(STACK.fleet.hosts)
FACTS = {host: Facts(recorded(host)) for host in HOSTS}
DOWN = HostUnreachable(Diagnostic("gpu-01", "no answer", "it answers at its address", "Switch it on"))


def deployment(number: int = 1, created: bool = True) -> dict[str, Any]:
    """Return a state of all resources of the stack."""
    return {
        "resources": [
            {
                "urn": f"urn:pulumi:lab::rackwright::{each.token}::{each.name}",
                "type": each.token,
                "custom": True,
                "inputs": {**each.inputs, PROPERTY: number},
                "outputs": {"created": created},
            }
            for each in declare(STACK)
        ]
    }


def refusals(evidence: Any, stack: Any = STACK, **state: Any) -> list[Diagnostic]:
    compared = report.compare(stack, evidence)
    try:
        set_aside.check_complete(stack, deployment(**state), evidence, compared)
    except ChangeRefused as refused:
        return [*refused.diagnostics]
    return []


def test_nothing_is_lost_if_every_host_is_read_and_has_its_data():
    assert refusals(FACTS) == []


def test_a_host_that_is_not_read_keeps_the_state_in_its_place():
    """
    Its resources could not be adopted; a retired or undeclared host has none to adopt.
    """
    [refusal] = refusals({**FACTS, "gpu-01": DOWN})
    assert (refusal.where, refusal.problem) == ("gpu-01", "no answer")
    assert "`rackwright host forget lab gpu-01`" in refusal.help

    fleet = STACK.fleet.model_copy(update={"hosts": {name: STACK.fleet.hosts[name] for name in HOSTS[1:]}})
    assert refusals(FACTS, replace(STACK, fleet=fleet)) == []


def test_a_host_in_maintenance_keeps_the_state_in_its_place():
    evidence = {name: facts for name, facts in FACTS.items() if name != "gpu-01"}

    [refusal] = refusals(evidence, replace(STACK, maintenance={"gpu-01": "in maintenance until Friday"}))

    assert (refusal.where, refusal.problem) == ("gpu-01", "the host is in maintenance until Friday")


def test_data_that_only_the_state_knows_keeps_it_in_its_place():
    """
    The next up would make the tiers again; tiers that were never complete may be made.
    """
    lost = {**FACTS, "gpu-01": Facts(blank())}

    assert [refusal.where for refusal in refusals(lost)] == ["gpu-01/hot", "gpu-01/warm"]
    assert refusals(lost, created=False) == []


@pytest.mark.parametrize(
    ("number", "change", "readable"),
    [(STATE_FORMAT, {}, True), (STATE_FORMAT - 1, {}, False), (STATE_FORMAT, {"machine": "gpu-01"}, False)],
    ids=["this format", "another format", "another shape"],
)
def test_a_state_is_readable_in_this_format_and_with_whole_declarations(number, change, readable):
    state = json.loads(json.dumps(deployment(number)))
    state["resources"][0]["inputs"] |= change

    assert set_aside.is_readable(state) is readable


def test_resources_that_are_no_longer_declared_are_listed():
    names = [each.name for each in declare(STACK)]

    assert set_aside.find_undeclared(deployment(), names[1:]) == names[:1]


def test_an_empty_state_needs_nothing():
    assert set_aside.is_readable({})
    assert set_aside.find_undeclared({}, []) == []
