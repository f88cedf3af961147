"""The commands preview and up: they run pulumi, list unknown hosts, and return an exit status by the result."""

import math
import signal
import socket
import subprocess
import time
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any, Literal

from rackwright import process_tree, scratch, terminal
from rackwright.cli import (
    plan,
    project,
    pulumi_display,
    pulumi_entries,
    pulumi_output,
    pulumi_summary,
    recording,
    removal,
    state,
)
from rackwright.cli.ending import INTERRUPTED_TEXT, StopSignal
from rackwright.cli.killed import killed_error, killed_provider
from rackwright.cli.removal import Removal
from rackwright.errors import ChangeRefused, DeclarationError, Diagnostic, SetupError, command
from rackwright.exit_status import ExitStatus, gravest
from rackwright.files import write_atomic
from rackwright.hosts import recent
from rackwright.kinds.table import KINDS
from rackwright.lock.tree import find_missing
from rackwright.log.operation import VARIABLE
from rackwright.process_tree import Stage
from rackwright.provider import consents, lifetime, outcomes, saved_plan, state_format
from rackwright.provider.outcomes import Outcome, PlanRecord
from rackwright.provider.saved_plan import SavedPlan, SavedResource
from rackwright.provider.state_format import RACK
from rackwright.schema.problem import hint
from rackwright.stack import Stack, declare

Verb = Literal["preview", "up"]
PROGRESS_SECONDS = 0.5
SUMMARY_SECONDS = 1.0
"""Seconds after a stop until the summary is printed, although pulumi has not ended."""
PREVIEW_ENDING = (Stage("program", signal.SIGINT, 1.0), Stage("tree", signal.SIGKILL, 5.0))
"""Ending of a preview, which holds no lock and changes nothing."""
LOOPBACK = "127.0.0.1"
INTERRUPTED = (ExitStatus.INTERRUPTED.value, -signal.SIGINT)
"""Exit statuses of a pulumi that the user has interrupted."""


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
    with scratch.directory() as directory:
        own = {"PULUMI_DEBUG_COMMANDS": "true", recent.VARIABLE: str(directory / "facts")}
        environment = {**project.environment(name), **own, **consent_variables}
        yield _CommandRun(stack, total, targets, environment, directory)


def _plan(run: _CommandRun, changes: bool = False) -> "PulumiRun":
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


def _show(planned: "PulumiRun", form: Form, show: Callable[[str], None]) -> None:
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


def _saved_plan(stack: str, planned: "PulumiRun") -> SavedPlan:
    """Return the plan of a preview, for a file."""
    resources = {
        id: SavedResource(claims=record.claims, steps=record.steps, texts=record.texts)
        for id, record in sorted(planned.plans.items())
        if id not in planned.removed_names
    }
    removed = sorted(change.name for change in planned.changes if change.op == "delete" and change.type in KINDS)
    return SavedPlan(stack=stack, resources=resources, removed=tuple(removed))


@dataclass(frozen=True)
class PulumiRun:
    """The result of a pulumi command on all resources."""

    status: int
    """Pulumi's exit status; negative if a signal killed it."""
    events: plan.Events
    resources: Mapping[Outcome, set[str]]
    """The resources with each outcome that the provider has recorded."""
    plans: Mapping[str, PlanRecord]
    output: str = ""
    """All that it printed, if that was captured."""
    details: Sequence[str] = ()
    """The lines about failures, and about changes that are not done."""
    stopped: StopSignal | None = None
    """The signal, other than Ctrl-C, that stopped the command."""

    @property
    def changes(self) -> list[plan.Change]:
        """The changes that pulumi plans, without those of hosts that were not reached.

        Pulumi plans all resources of an unreachable host, about which nothing is known. With any of them, changes of
        components are left out.
        """
        unreachable = self.resources.get("unreachable", set())
        if not unreachable:
            return [*self.events.changes]
        return [each for each in self.events.changes if each.type in KINDS and each.name not in unreachable]

    @property
    def changed_resources(self) -> int:
        """The number of resources to change on hosts: components exist in the state alone."""
        return sum(change.type in KINDS for change in self.changes)

    @property
    def removed_names(self) -> set[str]:
        """The names of the resources that leave their hosts: the program has them under no other URN."""
        changes = [change for change in self.events.changes if change.type in KINDS]
        declared = {change.name for change in changes if change.op != "delete"} | {*self.events.unchanged}
        return {change.name for change in changes if change.op == "delete"} - declared

    def with_removals(self, removals: Iterable[Removal]) -> "PulumiRun":
        """Return this result with the effects of *removals*, which pulumi plans without asking the provider."""
        removals = list(removals)
        texts = {each.name: (each.reason,) for each in removals if each.reason}
        kept: dict[Outcome, set[str]] = {
            outcome: {each.name for each in removals if each.outcome == word} | self.resources.get(outcome, set())
            for outcome, word in removal.KEPT.items()
        }
        return replace(
            self,
            events=replace(self.events, messages={**self.events.messages, **texts}),
            plans={**self.plans, **{each.name: each.record for each in removals}},
            resources={**self.resources, **kept},
        )

    @property
    def has_stopped(self) -> bool:
        """Whether a signal, the user or an error outside the resources ended it, so that no command should follow."""
        return self.status < 0 or self.status in INTERRUPTED or self.status > 1


def run_pulumi(
    argv: Sequence[str],
    stack: str,
    directory: Path,
    environment: Mapping[str, str],
    stdout: IO[str] | None,
    expected: Collection[str],
) -> PulumiRun:
    """Run pulumi with *argv* on *stack*, and return its result. The work on each host is shown, and each failure.

    Args:
        directory: A directory for the command's records, which this function makes.
        stdout: The stream for pulumi's output; None for rackwright's own stdout.
        expected: The names of the resources to change.
    """
    records, argv = _Records(directory, stack, expected), [*argv, "--suppress-outputs"]
    is_shown = stdout is None and terminal.is_live()
    ended = _run_shown(argv, records, environment) if is_shown else _run_piped(argv, records, environment, stdout)
    if not ended.status and stdout is None:  # outputs of resources that have failed would mislead
        terminal.show(plan.format_outputs(records.events), end="", flush=True)
    return ended


def _run_piped(
    argv: Sequence[str], records: "_Records", environment: Mapping[str, str], stdout: IO[str] | None
) -> PulumiRun:
    """Run pulumi, whose own output has a line for each change and each step."""
    whole = records.environment(environment)
    process = process_tree.start(
        records.argv(argv), process_tree.GENTLE, cwd=project.directory(), env=whole, stdout=subprocess.PIPE
    )
    heading = f"{argv[0]} {records.stack}"
    assert process.stdout is not None  # it is a pipe
    with pulumi_output.passed_on(process.stdout, stdout), records.watch(heading, not terminal.is_live()) as look:
        status, stopped = _await_end(process, look, records)
        look()
    return records.result(argv, status, stopped)


def _run_shown(argv: Sequence[str], records: "_Records", environment: Mapping[str, str]) -> PulumiRun:
    """Run pulumi; a terminal shows finished resources, and below them the work on each host."""
    argv = [*argv, "--color", "never"]
    with records.output.open("w") as output:
        process = process_tree.start(
            records.argv(argv),
            process_tree.GENTLE,
            cwd=project.directory(),
            env=records.environment(environment),
            stdout=output,
            stderr=subprocess.STDOUT,
        )
        with records.watch(f"{argv[0]} {records.stack}", True, with_results=True) as look:
            status, stopped = _await_end(process, look, records)
            look()
    ended = records.result(argv, status, stopped)
    for line in plan.format_messages(ended.events):
        terminal.show(line)
    if status and not ended.events.messages:
        project.notify(ended.output.strip())
    return ended


def preview_resources(
    stack: str, directory: Path, environment: Mapping[str, str], total: int, targets: Sequence[str] = ()
) -> PulumiRun:
    """Run `pulumi preview`, while a terminal shows the work on each host, and return its result with its output.

    Args:
        directory: A directory for the command's records, which this function makes.
        targets: Pulumi's options that leave out resources.
        total: The number of declared resources.
    """
    records, argv = _Records(directory, stack), ["preview", "--color", "never", *targets]
    whole = records.environment(environment)
    records.events.touch()
    compared: set[str] = set()

    def heading(seconds: float) -> str:
        return f"comparing {stack} with its hosts: {len(compared)} of {total} resources, {seconds:.0f} s"

    with records.output.open("w") as output, records.events.open() as events:
        process = process_tree.start(
            records.argv(argv),
            PREVIEW_ENDING,
            cwd=project.directory(),
            env=whole,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
        with pulumi_display.show(records.outcomes, heading) as refresh:
            while (status := _wait(process)) is None:
                compared |= plan.compared_resources(events)
                refresh()
    return records.result(argv, status)


def _wait(process: "subprocess.Popen[bytes]") -> int | None:
    """Return the exit status of *process*, a preview; None if it goes on after a while."""
    try:
        return process.wait(PROGRESS_SECONDS)
    except subprocess.TimeoutExpired:
        return None
    except (KeyboardInterrupt, StopSignal):
        process_tree.stop(process)
        raise


def _await_end(
    process: "subprocess.Popen[bytes]", look: Callable[[], None], records: "_Records"
) -> tuple[int, StopSignal | None]:
    """Return the exit status of *process*, and the signal that stopped this command; wait for its end whatever comes.

    The first Ctrl-C or other signal lets pulumi cancel its calls, the second ends it at once, the third kills its tree:
    `process_tree.GENTLE`. `subprocess.run` would kill it after a quarter of a second, and its lock would stay.

    Args:
        look: A function to call twice a second until the end.
        records: Those of the command, of which a summary is printed if pulumi does not end at once.
    """
    interrupted, stopped, summary_at = False, None, math.inf
    while True:
        try:
            status = process.wait(PROGRESS_SECONDS)
            break
        except subprocess.TimeoutExpired:
            look()
            if time.monotonic() > summary_at:
                summary_at = math.inf
                project.notify("pulumi has not ended yet; until now:")
                for line in (*pulumi_summary.outcome_lines(outcomes.read(records.outcomes)), *records.details(True)):
                    project.notify(line)
        except KeyboardInterrupt:
            interrupted = True
            process.terminate()
            summary_at = min(summary_at, time.monotonic() + SUMMARY_SECONDS)
        except StopSignal as reason:
            stopped = reason
            process.terminate()
            summary_at = min(summary_at, time.monotonic() + SUMMARY_SECONDS)
    return (INTERRUPTED[0] if interrupted or stopped else status), stopped


@dataclass(frozen=True)
class _Records:
    """The files in which a pulumi command and the provider record what they do."""

    directory: Path
    stack: str
    expected: Collection[str] | None = None
    """The names of the resources to change; None for a command that changes none."""

    def __post_init__(self) -> None:
        self.directory.mkdir()

    @property
    def events(self) -> Path:
        return self.directory / "events"

    @property
    def output(self) -> Path:
        return self.directory / "output"

    @property
    def outcomes(self) -> Path:
        return self.directory / "outcomes"

    def argv(self, argv: Sequence[str]) -> list[str]:
        return ["pulumi", *argv, "--stack", self.stack, "--event-log", str(self.events)]

    def environment(self, environment: Mapping[str, str]) -> dict[str, str]:
        return {**environment, lifetime.VARIABLE: str(self.outcomes)}

    @contextmanager
    def watch(self, heading: str, is_shown: bool, with_results: bool = False) -> Iterator[Callable[[], None]]:
        """Yield a function to call again and again, which prints each failure when it has happened.

        Args:
            heading: Beginning of the line above the work on each host.
            is_shown: Whether to show that work.
            with_results: Whether to print a line for each finished resource as well.
        """
        failures = pulumi_display.Failures()
        results = pulumi_display.ResourceResults(failures.outcomes)
        self.events.touch()
        self.outcomes.touch(0o600)

        def head(seconds: float) -> str:
            return f"{heading}: {len(results.names)} resources done, {seconds:.0f} s"

        shown = pulumi_display.show(self.outcomes, head) if is_shown else nullcontext(lambda: None)
        with self.events.open() as events, self.outcomes.open() as records, shown as refresh:

            def look() -> None:
                refresh()
                for line in failures.lines(records):
                    project.notify(line)
                lines = results.lines(events)
                if with_results:
                    pulumi_display.show_lines(lines)
                else:
                    deque(lines, maxlen=0)

            yield look

    def details(self, has_ended_early: bool) -> list[str]:
        """Return the lines about failures, and about changes that are not done."""
        if self.expected is None:
            return []
        return [*pulumi_summary.change_lines(self.outcomes, self.events, self.expected, has_ended_early)]

    def result(self, argv: Sequence[str], status: int, stopped: StopSignal | None = None) -> PulumiRun:
        if status < 0 and status not in INTERRUPTED:
            project.notify(killed_error(["pulumi", argv[0]], -status, self.stack).render())
        elif status > 0 and status not in INTERRUPTED and outcomes.read_killed(self.outcomes):
            project.notify(killed_provider(self.stack).render())
            status = -signal.SIGKILL
        return PulumiRun(
            status,
            plan.read_events(self.events),
            outcomes.read(self.outcomes),
            outcomes.read_plans(self.outcomes),
            self.output.read_text(errors="replace") if self.output.exists() else "",
            self.details(status != 0),
            stopped,
        )


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
