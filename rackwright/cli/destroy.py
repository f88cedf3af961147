"""The command destroy: a summary of what each removal deletes and leaves, a question, and pulumi's destroy."""

import tempfile
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import ValidationError

from rackwright import terminal
from rackwright.audit import evidence
from rackwright.cli import project
from rackwright.cli.pulumi import finish, read_state, run_pulumi
from rackwright.core.contract import Kind, Plan
from rackwright.core.wording import format_plan
from rackwright.errors import UserError, command, render
from rackwright.kinds.shared.unknown_facts import refuse_unknown
from rackwright.kinds.table import KINDS
from rackwright.provider import state_format
from rackwright.provider.resource import parse_spec

if TYPE_CHECKING:
    from rackwright.audit.report import Evidence
    from rackwright.stack import Stack

Outcome = Literal["removed", "stays", "refused"]
TOTALS: Mapping[Outcome, str] = {
    "removed": "removed from the hosts",
    "stays": "unchanged on the hosts",
    "refused": "refused",
}


@dataclass(frozen=True)
class Removal:
    """The effect of the removal of one resource on its host."""

    name: str
    outcome: Outcome
    text: str
    """The steps, or the reasons of a refusal, in lines."""


def run(name: str, yes: bool) -> int:
    """Remove the resources of the stack *name* from their hosts, and return rackwright's exit status.

    Raises:
        Refused: The command would have to ask, and stdin is no terminal; or the state has another format.
    """
    stack = project.stack(name)
    if not yes:
        terminal.require(f"Run {command('rackwright destroy {}', name)} on a terminal, or pass --yes to destroy unseen")
    with tempfile.TemporaryDirectory() as scratch:
        environment = {**project.environment(name), "PULUMI_DEBUG_COMMANDS": "true"}
        deployment = read_state(name, environment)
        resources = state_format.managed_resources(deployment)
        if not resources:
            project.notify(f"{name}: the state has no resources; nothing is to be removed")
            return 0
        found = _removals(stack, resources)
        for removal in found:
            terminal.show(f"{removal.name}: {removal.outcome}")
            if removal.text:
                terminal.show("".join(f"  {line}\n" for line in removal.text.splitlines()), end="")
        counts = Counter(removal.outcome for removal in found)
        terminal.show(", ".join(f"{counts[outcome]} {text}" for outcome, text in TOTALS.items()))
        if not yes and not terminal.confirm(f"Destroy the stack {name}?"):
            project.notify("nothing was changed")
            return 2
        argv = ["destroy", "--yes", "--skip-preview"]
        return finish(run_pulumi(argv, name, Path(scratch, "destroy"), environment, None), "up")


def _removals(stack: "Stack", resources: list[Mapping[str, Any]]) -> list[Removal]:
    """Return the removal of each resource in the state, in the order in which pulumi deletes them."""
    names = {resource["inputs"].get("host") for resource in resources} & stack.fleet.hosts.keys()
    with project.connect_hosts(stack) as hosts:
        facts = evidence.from_hosts(hosts, sorted(names - stack.maintenance.keys()), project.notify)
    return [plan_removal(stack, resource, facts) for resource in reversed(resources)]


def plan_removal(stack: "Stack", resource: Mapping[str, Any], facts: "Evidence") -> Removal:
    """Return what the removal of *resource*, of the state, does on its host; the provider decides by the same plan."""
    name, host = resource["urn"].rpartition("::")[2], resource["inputs"].get("host")
    if host in stack.retired:
        return Removal(name, "stays", f"{host} is retired")
    if text := stack.maintenance.get(host):
        return Removal(name, "refused", f"{host} is {text}")
    kind: Kind[Any] = KINDS[resource["type"]]
    try:
        spec = parse_spec(kind, resource["inputs"])
    except ValidationError as error:
        return Removal(name, "refused", f"the state cannot be read: {error.error_count()} errors")
    observed = facts.get(host)
    if observed is None:
        return Removal(name, "refused", f"{host} is not declared any more, so it cannot be reached")
    if isinstance(observed, UserError):
        return Removal(name, "refused", observed.render(severity=""))
    consent = kind.consents(spec)
    plan: Plan = refuse_unknown(name, lambda: kind.removal(spec, observed, stack.repository, consent))
    if plan.refusals:
        return Removal(name, "refused", render(plan.refusals, severity=""))
    return Removal(name, "removed" if plan.steps else "stays", format_plan(plan))
