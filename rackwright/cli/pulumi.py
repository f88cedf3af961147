"""The commands preview and up: they run pulumi, list unknown hosts, and return an exit status by the result."""

import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Literal

from rackwright import scratch, terminal
from rackwright.cli import plan, project, pulumi_entries, pulumi_summary, recording, removal, state
from rackwright.cli.ending import INTERRUPTED_TEXT
from rackwright.cli.pulumi_records import INTERRUPTED, PulumiRun
from rackwright.cli.pulumi_run import preview_resources, run_pulumi
from rackwright.errors import ChangeRefused, DeclarationError, Diagnostic, SetupError, command
from rackwright.exit_status import ExitStatus, gravest
from rackwright.files import write_atomic
from rackwright.hosts import recent
from rackwright.kinds.table import KINDS
from rackwright.lock.tree import find_missing
from rackwright.log.operation import VARIABLE
from rackwright.provider import consents, outcomes, saved_plan, state_format
from rackwright.provider.outcomes import Outcome
from rackwright.provider.saved_plan import SavedPlan, SavedResource
from rackwright.provider.state_format import RACK
from rackwright.schema.problem import hint
from rackwright.stack import Stack, declare
from rackwright.stack.servers import server_notes

Verb = Literal["preview", "up"]
LOOPBACK = "127.0.0.1"


@dataclass(frozen=True)
class Form:
    """How a plan is printed."""

    steps: bool = False
    diff: bool = False
    json: bool = False


SUMMARY = Form()


@dataclass(frozen=True)
class Selection:
    """The hosts that a command compares and changes, and its consents."""

    hosts: Sequence[str] = ()
    """Empty for all hosts."""
    consents: Sequence[str] = ()
    """Consents to overwrite drives, for this command alone: ``SERIAL=CONTENT``."""


WHOLE = Selection()


def preview(stack: str, selection: Selection = WHOLE, form: Form = SUMMARY, save: Path | None = None) -> int:
    """Print the plan of *stack*, and return rackwright's exit status.

    Args:
        save: The file to which the plan is written, for `up`.
    """
    with _prepare(stack, selection) as command_run:
        planned = _plan(command_run)
        _show(planned, form, terminal.show)
        if save and not planned.has_stopped:
            write_atomic(save, f"{_saved_plan(stack, planned).model_dump_json(indent=2)}\n")
            apply = command("rackwright up {} --plan {}", stack, save)
            project.notify(f"the plan is in {save}; apply it with {apply}")
        return finish(planned, "preview")


def up(
    stack: str,
    selection: Selection = WHOLE,
    form: Form = SUMMARY,
    yes: bool = False,
    saved: Path | None = None,
    stdout: IO[str] | None = None,
) -> int:
    """Print the plan of *stack*, ask, change the hosts, and return rackwright's exit status.

    Args:
        yes: Whether to change the hosts without asking the operator after the preview.
        saved: The file of a saved plan, which is applied without a question.
        stdout: The stream for pulumi's output; None for rackwright's own stdout. With one, the plan goes to stderr.

    Raises:
        ChangeRefused: The command would have to ask, and stdin is no terminal; or another pulumi has locked the state.
    """
    with _prepare(stack, selection) as command_run:
        approved = saved_plan.load(saved, stack) if saved else None
        yes = yes or approved is not None
        if not yes:
            help = f"Read the output of {command('rackwright preview {}', stack)}, then run"
            terminal.require(f"{help} {command('rackwright up {} --yes', stack)}")
        # The preview of `pulumi up` would end at the first refusal, with nothing done. This preview shows the plan,
        # and resources that do not depend on a refused one are still changed.
        planned = _plan(command_run, changes=True)
        _show(planned, form, terminal.show if stdout is None else terminal.notify)
        if planned.has_stopped:
            return finish(planned, "up")
        asks = not yes and (planned.status or planned.changed_resources)
        if asks and not _agrees(command_run.stack, planned):
            project.notify("nothing was changed")
            return finish(planned, "preview")
        environment = {**command_run.environment, **_approval(approved, command_run.scratch)}
        argv = ["up", "--yes", "--skip-preview", *command_run.targets]
        with recording.record(
            "up", command_run.stack, selection.hosts, planned=pulumi_entries.changes(planned)
        ) as operation:
            environment[VARIABLE] = operation.id
            expected = {change.name for change in planned.changes if change.type in KINDS}
            ended = run_pulumi(argv, stack, command_run.scratch / "up", environment, stdout, expected)
            pulumi_entries.note_outcomes(operation, ended)
            return recording.finish(operation, finish(ended, "up"))


@dataclass(frozen=True)
class _CommandRun:
    """A command on a stack whose declaration has no errors."""

    stack: Stack
    total: int
    """The number of declared resources."""
    targets: Sequence[str]
    """Pulumi's options that leave out resources."""
    environment: Mapping[str, str]
    scratch: Path
    """A directory for the records of its pulumi commands."""


@contextmanager
def _prepare(name: str, selection: Selection) -> Iterator[_CommandRun]:
    """Yield the run of a command on the stack *name*. Errors of the declaration are reported before anything starts."""
    stack = project.stack(name)
    consent_variables = consents.pass_on(_consents(stack, selection.consents))
    total = check(stack)
    require_loopback()
    project.require_twin(stack)
    targets = _targets(stack, selection.hosts)
    for note in server_notes(stack):
        project.notify(f"note: {note}")
    with scratch.directory() as directory:
        own = {"PULUMI_DEBUG_COMMANDS": "true", recent.VARIABLE: str(directory / "facts")}
        environment = {**project.environment(name), **own, **consent_variables}
        yield _CommandRun(stack, total, targets, environment, directory)


def _plan(run: _CommandRun, changes: bool = False) -> PulumiRun:
    """Return the result of pulumi's preview.

    Args:
        changes: Whether the command changes hosts later, for which no other pulumi may have locked the state.
    """
    name = run.stack.name
    deployment = read_state(name, run.environment)
    if changes:
        state.require_unlocked(name, run.environment)
    planned = preview_resources(name, run.scratch / "preview", run.environment, run.total, run.targets)
    if planned.has_stopped or not (removed := planned.removed_names):
        return planned
    resources = [each for each in state_format.managed_resources(deployment) if removal.name_of(each) in removed]
    return planned.with_removals(removal.plan_removals(run.stack, resources))


def _show(planned: PulumiRun, form: Form, show: Callable[[str], None]) -> None:
    """Print the plan, or the output of a pulumi that has failed before its event log began."""
    if form.json:
        terminal.show_json(plan.as_data(planned.events, planned.plans, planned.resources))
    else:
        show(plan.format_summary(planned.events, planned.plans, planned.resources, form.steps, form.diff))
    if planned.status and not planned.events.messages:
        project.notify(planned.output.strip())


def _approval(approved: SavedPlan | None, scratch: Path) -> dict[str, str]:
    """Return the variable with the path of a copy of *approved*, so that the provider reads what was checked."""
    if approved is None:
        return {}
    copy = scratch / "plan"
    copy.write_text(approved.model_dump_json(), encoding="utf-8")
    return {saved_plan.VARIABLE: str(copy)}


def _targets(stack: Stack, hosts: Sequence[str]) -> list[str]:
    """Return pulumi's options that leave out all resources but those of *hosts*, and the component of the rack.

    Raises:
        DeclarationError: The fleet has no such host.
        ChangeRefused: The stack has runs or servers, whose resources on several hosts belong together.
    """
    if wrong := [*stack.unknown_host_errors(*hosts)]:
        raise DeclarationError(*wrong)
    if hosts and stack.fleet.uses:
        problem = "the stack has runs or servers, whose parts on several hosts belong together"
        help = "Leave out --host, or name the stack of the hosts"
        raise ChangeRefused(Diagnostic("--host", problem, "a stack of hosts", help))
    patterns = [f"**::{host}{rest}" for host in hosts for rest in ("", "/**")]
    return [word for pattern in (patterns and [f"**{RACK}::**", *patterns]) for word in ("--target", pattern)]


def _saved_plan(stack: str, planned: PulumiRun) -> SavedPlan:
    """Return the plan of a preview, for a file."""
    resources = {
        id: SavedResource(claims=record.claims, steps=record.steps, texts=record.texts)
        for id, record in sorted(planned.plans.items())
        if id not in planned.removed_names
    }
    removed = sorted(change.name for change in planned.changes if change.op == "delete" and change.type in KINDS)
    return SavedPlan(stack=stack, resources=resources, removed=tuple(removed))


def finish(ended: PulumiRun, verb: Verb) -> int:
    """Print a summary of the outcomes, and return rackwright's exit status.

    Raises:
        StopSignal: A signal has stopped the command; its status is that of the signal.
    """
    for line in (*pulumi_summary.outcome_lines(ended.resources), *ended.details):
        project.notify(line)
    if ended.stopped:
        raise ended.stopped
    if ended.status in INTERRUPTED:
        project.notify(INTERRUPTED_TEXT)
    return exit_status(verb, ended.status, bool(ended.changes), ended.resources)


def read_state(stack: str, environment: Mapping[str, str]) -> dict[str, Any]:
    """Return the deployment of the stack's state; an empty one is created if there is none.

    Raises:
        ChangeRefused: The state has the format of another version.
    """
    deployment = state.parse_state(state.select(stack, project.directory(), environment)).get("deployment") or {}
    for found in state_format.formats(deployment):
        state_format.check_format(found, stack)
    return deployment


def _agrees(stack: Stack, planned: PulumiRun) -> bool:
    """Return whether the operator agrees to the plan."""
    count, target = planned.changed_resources, project.format_target(stack)
    question = f"Change {count} resource{'s' * (count != 1)} of {target}?"
    if planned.status:
        question = f"The preview stopped at the errors above. Change the other resources of {target}?"
    return project.confirm_change(stack, question, any(each.destroys for each in planned.plans.values()))


def _consents(stack: Stack, consented: Sequence[str]) -> dict[str, str]:
    """Return the consents by serial; raise if one is for a drive of no tier."""
    parsed = consents.parse(consented)
    members = [drive.serial for host in stack.fleet.hosts.values() for drive in host.drives if drive.tier]
    expected = "the serial of a drive in a tier"
    wrong = [
        Diagnostic("--consent", f"no tier has a drive {serial}", expected, hint(serial, members, "Leave it out"))
        for serial in parsed
        if serial not in members
    ]
    if wrong:
        raise DeclarationError(*wrong)
    return parsed


def check(stack: Stack) -> int:
    """Return the number of declared resources.

    Raises:
        DeclarationError: The declaration or its lock has errors.
        SetupError: The local repository lacks packages for the hosts.
    """
    total = len(declare(stack))
    if stack.lock and stack.brings_packages and (missing := find_missing(stack.lock, stack.local_repository)):
        help = f"Run {command('rackwright lock --fetch {}', stack.name)}"
        problem, expected = f"the local repository is incomplete: {missing}", "all packages in the lock"
        raise SetupError(Diagnostic(str(stack.local_repository), problem, expected, help, id="repository-incomplete"))
    return total


def require_loopback() -> None:
    """Return if this computer can connect to itself, as pulumi and its plugins do.

    Raises:
        SetupError: It cannot.
    """
    try:
        with socket.create_server((LOOPBACK, 0)) as server, socket.create_connection(server.getsockname(), 5):
            return
    except OSError as error:
        problem = f"this computer cannot connect to itself at {LOOPBACK}: {error.strerror or error}"
        expected, help = "a loopback interface, over which pulumi calls its plugins", "Run `ip link set lo up`"
        raise SetupError(Diagnostic("command", problem, expected, help)) from None


def exit_status(verb: Verb, status: int, changes: bool, resources: Mapping[Outcome, set[str]]) -> int:
    """Return the exit status: 0 as declared, 1 differs, 2 refused, 3 unknown, 4 a step failed.

    Args:
        status: Pulumi's exit status; negative if a signal killed it.
        changes: True if pulumi planned changes on hosts that were reached.
        resources: The resources with each outcome that the provider has recorded.
    """
    if status in INTERRUPTED:
        return ExitStatus.INTERRUPTED
    if status < 0:
        return ExitStatus.FAILED
    if status > 1:
        return ExitStatus.REFUSED
    ended = [outcomes.STATUSES[outcome] for outcome, names in resources.items() if names]
    if status and not any(resources.get(outcome) for outcome in outcomes.INCOMPLETE):
        ended.append(ExitStatus.FAILED)  # an error that belongs to no resource
    if verb == "preview" and changes:
        ended.append(ExitStatus.DIFFERS)
    return gravest(ended)
