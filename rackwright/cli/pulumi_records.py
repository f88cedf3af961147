"""The files in which a pulumi command and the provider record their work, and the result of the command."""

import signal
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

from rackwright.cli import plan, project, pulumi_display, pulumi_summary, removal
from rackwright.cli.ending import StopSignal
from rackwright.cli.killed import killed_error, killed_provider
from rackwright.cli.removal import Removal
from rackwright.exit_status import ExitStatus
from rackwright.kinds.table import KINDS
from rackwright.provider import lifetime, outcomes
from rackwright.provider.outcomes import Outcome, PlanRecord

INTERRUPTED = (ExitStatus.INTERRUPTED.value, -signal.SIGINT)
"""Exit statuses of a pulumi that the user has interrupted."""


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


@dataclass(frozen=True)
class Records:
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
