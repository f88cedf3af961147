"""The progress, the logs and the end of training runs."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, NotRequired, cast

from typing_extensions import TypedDict  # pydantic reads no other one on Python 3.11

from rackwright.audit.evidence import AT_ONCE
from rackwright.errors import DeclarationError, Diagnostic, StepFailed, UserError, command, one_line
from rackwright.facts.facts import Facts
from rackwright.hosts.pool import Hosts
from rackwright.hosts.reading_threads import reading_threads
from rackwright.kinds.pods import PodFilesSpec, PodsSpec
from rackwright.kinds.training_run import TrainingRunKind
from rackwright.kinds.training_run.spec import TrainingSpec
from rackwright.progress import Progress
from rackwright.schema.problem import hint
from rackwright.stack import DeclaredResource, Stack, declare
from rackwright.status import pods

POLL_SECONDS = 5.0
STOP_MARGIN_SECONDS = 60.0
"""Seconds to wait beyond a run's grace period, for a host that is busy saving."""
LONGEST_SECONDS = 365 * 24 * 3600
"""A remaining time that is longer than this is printed without its number."""
Read = Callable[[str], Facts]
"""A function that returns the facts of a host, or raises a UserError."""
HEALTHY_OUTCOMES = ("running", "queued", "finished")


class RunData(TypedDict):
    """The state of a training run at one time."""

    name: str
    """Name of the run."""
    outcome: str
    """`running`, `queued`, `finished`, `stopped`, `failed`, `absent` or `unknown`."""
    ranks: Mapping[str, Mapping[str, int] | str]
    """The step of each process by its file of metrics, or the reason why it is unknown; by host."""
    step: NotRequired[int]
    """Number of the last step; absent before the first one."""
    steps: NotRequired[int]
    """Number of steps of the whole run."""
    loss: NotRequired[float]
    """Loss of the last step; absent if it is no finite number."""
    eta_seconds: NotRequired[int]
    """Estimate of the remaining time, from the duration of the last step."""
    checkpoint: NotRequired[int | None]
    """Step of the last checkpoint; null before the first one."""
    attempt: NotRequired[int | None]
    """Number of the present start."""
    why: NotRequired[str]
    """Reason of a failure, or reason why a queued run waits."""
    place: NotRequired[int | None]
    """Place in the queue of its team, 1 for the next run; only of a queued run."""
    tracking: NotRequired[str | None]
    """URL of the run's page on the MLflow server, for a tracked run; null if the server does not know it yet."""
    pods: NotRequired[int]
    """Number of pods, for a run on Kubernetes."""
    pods_ready: NotRequired[int]
    """Number of pods that run."""
    unknown: NotRequired[str]
    """Reason why nothing is known about the run."""


@dataclass(frozen=True)
class RunReport:
    """The state of a run at one time."""

    name: str
    launcher: Mapping[str, Any]
    """The report of the kind about the launcher host: outcome, step, steps, loss if it is a number, eta_seconds,
    checkpoint, attempt, why, and for a tracked run its page on the MLflow server."""
    ranks: Mapping[str, Mapping[str, int] | str]
    """The step of each process by its file of metrics, or the reason why it is unknown; by host."""

    @property
    def outcome(self) -> str:
        return str(self.launcher.get("outcome", "unknown" if "unknown" in self.launcher else "absent"))

    @property
    def exit_status(self) -> int:
        """0: running, queued or finished. 1: none of these. 3: the state is unknown, or a host was not reached."""
        if self.outcome == "unknown":
            return 3
        if self.outcome not in HEALTHY_OUTCOMES:
            return 1
        return 3 if any(isinstance(steps, str) for steps in self.ranks.values()) else 0

    @property
    def summary(self) -> str:
        """The outcome and the progress in one line."""
        return str(self).partition("\n")[0].removeprefix(f"{self.name}: ")

    def as_json(self) -> RunData:
        launcher = cast("RunData", self.launcher)  # keys that the launcher host does not report are optional
        return {**launcher, "name": self.name, "outcome": self.outcome, "ranks": dict(self.ranks)}

    def __str__(self) -> str:
        return "\n".join(map(one_line, self._lines()))

    def _lines(self) -> Iterator[str]:
        parts = [self.outcome]
        if self.launcher.get("place") is not None:
            parts.append(f"place {self.launcher['place']} in the queue of its team")
        if "step" in self.launcher:
            parts.append(f"step {self.launcher['step']} of {self.launcher['steps']}")
            parts += [f"loss {self.launcher['loss']:.4g}"] if "loss" in self.launcher else []
            if self.outcome == "running":
                parts.append(f"{_format_remaining(self.launcher['eta_seconds'])} to go")
        if self.launcher.get("checkpoint") is not None:
            parts.append(f"last checkpoint {self.launcher['checkpoint']}")
        if (attempt := self.launcher.get("attempt")) and attempt > 1:
            parts.append(f"start {attempt}")
        if self.outcome == "running" and self.launcher.get("pods_ready") != self.launcher.get("pods"):
            parts.append(f"{self.launcher['pods_ready']} of {self.launcher['pods']} pods run")
        parts += [str(self.launcher[key]) for key in ("why", "unknown") if key in self.launcher]
        yield f"{self.name}: {', '.join(parts)}"
        if "tracking" in self.launcher:
            yield f"  {self.launcher['tracking'] or 'the MLflow server does not know it yet'}"
        for host, steps in self.ranks.items():
            text = steps if isinstance(steps, str) else ", ".join(f"{name} {step}" for name, step in steps.items())
            yield f"  {host}: {text or 'nothing logged'}"


def _format_remaining(seconds: int) -> str:
    """Return the time in *seconds*, which follow from numbers that the run's account writes, so from any."""
    return str(timedelta(seconds=max(seconds, 0))) if seconds < LONGEST_SECONDS else "more than a year"


def find_resources(stack: Stack, run: str) -> tuple[DeclaredResource, ...]:
    """Return the resources of *run*; the resource of the launcher host is the last one.

    Raises:
        DeclarationError: The stack has no such run.
    """
    runs = stack.fleet.runs
    if run not in runs:
        expected = f"one of {', '.join(runs)}" if runs else ""
        help = hint(run, runs, "Correct the name")
        raise DeclarationError(Diagnostic("run", f"stack {stack.name} has no run {run!r}", expected, help))
    return tuple(each for each in declare(stack, run) if run_of(each) == run)


def run_of(declared: DeclaredResource) -> str | None:
    """Return the name of the run that a resource belongs to; None for a resource of something else."""
    spec = declared.spec
    if isinstance(spec, PodFilesSpec | PodsSpec):
        return spec.workload.name if spec.workload.run is not None else None
    return spec.name if isinstance(spec, TrainingSpec) else None


def observe(hosts: Hosts, stack: Stack, run: str) -> RunReport:
    """Observe all hosts of *run* at the same time."""
    return read_run(run, find_resources(stack, run), lambda host: hosts.facts(host, fresh=True))


def read_run(run: str, resources: Sequence[DeclaredResource], read: Read) -> RunReport:
    """Return the state of *run* by the facts of its hosts.

    Args:
        resources: The resources of the run; that of the launcher host is the last one.
        read: Returns the facts of a host; called from several threads.
    """

    def read_host(declared: DeclaredResource) -> dict[str, Any]:
        try:
            report: dict[str, Any] = declared.kind.report(declared.spec, read(declared.source))
            return report
        except UserError as error:
            return {"unknown": f"not reached: {error.diagnostic.problem}"}

    with reading_threads(AT_ONCE) as pool:
        reports = dict(zip((each.source for each in resources), pool.map(read_host, resources), strict=True))
    launcher = reports[resources[-1].source]
    if isinstance(resources[-1].spec, PodsSpec):  # its outcome is in the cluster, and its progress on the first host
        del reports[resources[-1].source]
        launcher = {**reports[resources[0].source], **launcher}
    ranks = {host: report.get("unknown") or report.get("ranks", {}) for host, report in reversed(reports.items())}
    return RunReport(run, {name: value for name, value in launcher.items() if name != "ranks"}, ranks)


def stream_logs(hosts: Hosts, stack: Stack, run: str, lines: int, follow: bool, progress: Progress) -> None:
    """Pass the last *lines* of the log of *run* to *progress*, and then each new line, if *follow*.

    The run's own account reads the log on the launcher host, so root opens no path
    that this account could have replaced.

    Raises:
        StepFailed: There is no log.
    """
    last = find_resources(stack, run)[-1]
    if isinstance(last.spec, PodsSpec):
        pods.stream_logs(hosts, last.spec, lines, follow, progress)
        return
    launcher = _find_launcher(stack, run)
    following = ["--follow=name", "--retry"] if follow else []
    tail = ("runuser", "-u", launcher.account, "--", "tail", f"--lines={lines}", *following, launcher.log)
    seconds = float("inf") if follow else 60.0
    done = hosts.connection(launcher.host).run(tail, timeout=min(seconds, 7 * 86400), on_line=progress)
    if done.status:
        raise StepFailed(
            Diagnostic(
                run,
                f"there is no log on {launcher.host}",
                help=f"Run {command('rackwright up {}', stack.name)}",
                note="a run has a log from its first start",
            )
        )


def stop(hosts: Hosts, stack: Stack, run: str, progress: Progress) -> None:
    """Stop *run* after it has saved. Preview and audit report that it does not run; `up` starts it again.

    Raises:
        StepFailed: The run does not run there, or did not end.
    """
    last = find_resources(stack, run)[-1]
    if isinstance(last.spec, PodsSpec):
        pods.stop(hosts, last.spec, progress)
        return
    launcher = _find_launcher(stack, run)
    with hosts.lease(launcher.host, launcher.id, progress):
        progress(f"stopping {run}, which saves first")
        argv = ("systemctl", "stop", launcher.unit)
        done = hosts.connection(launcher.host).run(argv, timeout=launcher.declared.grace_seconds + STOP_MARGIN_SECONDS)
    if done.status:
        problem = f"systemctl cannot stop the run, and printed {done.stderr.strip()!r}"
        help = f"Read the log with {command('rackwright run logs {} {}', stack.name, run)}"
        raise StepFailed(Diagnostic(run, problem, help=help))


def wait(hosts: Hosts, stack: Stack, run: str, seconds: float | None, progress: Progress) -> RunReport:
    """Return the report of *run* once it has ended, or after *seconds*; pass each change of its state to *progress*."""
    deadline = None if seconds is None else time.monotonic() + seconds
    before = ""
    while True:
        report = observe(hosts, stack, run)
        over = report.outcome not in ("running", "queued", "unknown")
        if over or (deadline is not None and time.monotonic() >= deadline):
            return report
        if (state := str(report).splitlines()[0]) != before:
            progress(state)
            before = state
        time.sleep(POLL_SECONDS)
        hosts.try_again()


def _find_launcher(stack: Stack, run: str) -> TrainingSpec:
    declared = find_resources(stack, run)[-1]
    assert isinstance(declared.spec, TrainingSpec) and declared.token == TrainingRunKind.token
    return declared.spec
