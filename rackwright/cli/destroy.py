"""The command destroy: a summary of what each removal deletes and leaves, a question, and pulumi's destroy."""

from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING

from rackwright import scratch, terminal
from rackwright.cli import project, pulumi_entries, recording
from rackwright.cli.pulumi import finish, read_state
from rackwright.cli.pulumi_run import run_pulumi
from rackwright.cli.removal import KEPT, Outcome, plan_removals
from rackwright.errors import command
from rackwright.exit_status import ExitStatus, gravest
from rackwright.log.operation import VARIABLE
from rackwright.provider import state_format
from rackwright.provider.outcomes import STATUSES

if TYPE_CHECKING:
    from rackwright.stack import Stack

TOTALS: Mapping[Outcome, str] = {
    "removed": "removed from the hosts",
    "stays": "unchanged on the hosts",
    "refused": "refused",
    "not reached": "not reached",
}


def run(name: str, yes: bool) -> int:
    """Remove the resources of the stack *name* from their hosts, and return rackwright's exit status.

    Raises:
        ChangeRefused: The command would have to ask, and stdin is no terminal; or the state has another format.
    """
    stack = project.stack(name)
    if not yes:
        terminal.require(f"Run {command('rackwright destroy {}', name)} on a terminal, or pass --yes to destroy unseen")
    with scratch.directory() as directory:
        environment = {**project.environment(name), "PULUMI_DEBUG_COMMANDS": "true"}
        deployment = read_state(name, environment)
        resources = state_format.managed_resources(deployment)
        if not resources:
            project.notify(f"{name}: the state has no resources; nothing is to be removed")
            return 0
        found = plan_removals(stack, resources)
        for removal in found:
            terminal.show(f"{removal.name}: {removal.outcome}")
            if removal.text:
                terminal.show("".join(f"  {line}\n" for line in removal.text.splitlines()), end="")
        counts = Counter(removal.outcome for removal in found)
        terminal.show(", ".join(f"{counts[outcome]} {text}" for outcome, text in TOTALS.items()))
        kept = [outcome for outcome, word in KEPT.items() if counts[word]]
        if not yes and kept:
            again = command("rackwright destroy {}", name)
            project.notify(f"nothing was changed: correct what keeps the resources above, and run {again} again")
            project.notify(f"{command('rackwright destroy {} --yes', name)} removes the other resources")
            return gravest(STATUSES[outcome] for outcome in kept)
        destroys = any(each.record.destroys for each in found)
        if not yes and not project.confirm_change(stack, _question(stack, counts["removed"]), destroys):
            project.notify("nothing was changed")
            return ExitStatus.REFUSED
        argv = ["destroy", "--yes", "--skip-preview"]
        planned = [
            recording.change(each.name, "delete", each.name.partition("/")[0], each.record.destroys) for each in found
        ]
        expected = {each.name for each in found if each.outcome == "removed"}
        with recording.record("destroy", stack, planned=planned) as operation:
            environment[VARIABLE] = operation.id
            ended = run_pulumi(argv, name, directory / "destroy", environment, None, expected)
            pulumi_entries.note_outcomes(operation, ended)
            return recording.finish(operation, finish(ended, "up"))


def _question(stack: "Stack", count: int) -> str:
    return f"Destroy {project.format_target(stack)}, and remove {count} resource{'s' * (count != 1)} from its hosts?"
