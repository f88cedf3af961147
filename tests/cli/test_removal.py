"""The plans of removals: those that the preview and `destroy` show, which are those of the provider."""

from dataclasses import replace
from typing import Any

import pytest

from rackwright.cli.plan import Change, Events
from rackwright.cli.pulumi import exit_status
from rackwright.cli.pulumi_records import PulumiRun
from rackwright.cli.removal import plan_removal
from rackwright.errors import ChangeRefused, Diagnostic, HostUnreachable, UserError
from rackwright.facts.facts import Facts
from rackwright.provider.undeclared_source import refuse_removal
from rackwright.stack import declare
from tests.support.recorded_hosts import STACK, recorded

HOST = next(iter(STACK.fleet.hosts))


def of_the_state(name: str) -> dict[str, Any]:
    """Return the resource *name* as the state has it."""
    declared = next(each for each in declare(STACK) if each.name == name)
    return {"urn": f"urn:pulumi:lab::p::{declared.token}::{name}", "type": declared.token, "inputs": declared.inputs}


def test_the_preview_refuses_the_removal_of_a_lost_host_as_up_does():
    """
    It names the host, although facts of it are there: a host of a twin answers until the twin is stopped.
    """
    hosts = {name: host for name, host in STACK.fleet.hosts.items() if name != HOST}
    stack = replace(STACK, fleet=STACK.fleet.model_copy(update={"hosts": hosts}))

    removal = plan_removal(stack, of_the_state(HOST), {HOST: Facts(recorded(HOST))})

    assert (removal.name, removal.outcome) == (HOST, "refused")
    assert removal.reason == refuse_removal(STACK.name, HOST, HOST).render(severity="")
    assert f"the fleet does not declare {HOST} any more" in removal.reason


@pytest.mark.parametrize(
    ("error", "outcome", "status"),
    [(HostUnreachable, "not reached", 3), (ChangeRefused, "refused", 2)],
)
def test_a_removal_from_a_host_that_is_off_is_not_refused(error: type[UserError], outcome: str, status: int):
    removal = plan_removal(STACK, of_the_state(HOST), {HOST: error(Diagnostic(HOST, "no answer", help="Start it"))})
    planned = PulumiRun(0, Events((Change("delete", of_the_state(HOST)["type"], HOST),)), {}, {})

    shown = planned.with_removals([removal])

    assert removal.outcome == outcome
    assert exit_status("preview", 0, bool(shown.changes), shown.resources) == status
