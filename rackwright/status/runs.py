"""How far the runs of a stack are, on all of their hosts; what they say; and the end of one, or the wait for it."""

import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from rackwright.audit.evidence import AT_ONCE
from rackwright.errors import DeclarationError, RackwrightError, StepFailed, command, one_line
from rackwright.hosts.pool import Hosts
from rackwright.kinds.training_run import TrainingRunKind
from rackwright.kinds.training_run.spec import TrainingSpec
from rackwright.progress import Progress
from rackwright.schema.problem import hint
from rackwright.stack import DeclaredResource, Stack, declare

POLL_SECONDS = 5.0
SLACK_SECONDS = 60.0
"""Beyond a run's grace, for a host that is busy saving."""
GOING = ("running", "finished")


@dataclass(frozen=True)
class RunReport:
    """One run at one time."""

    name: str
    told: Mapping[str, Any]
    """What its kind reports of the chief: outcome, step, steps, loss, eta_seconds, checkpoint, attempt, why,
    and where it is tracked the page of that."""
    ranks: Mapping[str, Mapping[str, int] | str]
    """By host: the step of each process by its file of metrics, or why it is not known."""

    @property
    def outcome(self) -> str:
        return str(self.told.get("outcome", "unknown" if "unknown" in self.told else "absent"))

    @property
    def exit_status(self) -> int:
        """0 it runs or is finished, 1 it does not, 3 it is not known, or a host was not reached."""
        if self.outcome == "unknown":
            return 3
        if self.outcome not in GOING:
            return 1
        return 3 if any(isinstance(steps, str) for steps in self.ranks.values()) else 0

    def as_json(self) -> dict[str, Any]:
        return {"name": self.name, **self.told, "outcome": self.outcome, "ranks": dict(self.ranks)}

    def __str__(self) -> str:
        return "\n".join(map(one_line, self._lines()))

    def _lines(self) -> Iterator[str]:
        parts = [self.outcome]
        if "step" in self.told:
            parts += [f"step {self.told['step']} of {self.told['steps']}", f"loss {self.told['loss']:.4g}"]
            if self.outcome == "running":
                parts.append(f"{timedelta(seconds=self.told['eta_seconds'])} to go")
        if self.told.get("checkpoint") is not None:
            parts.append(f"last checkpoint {self.told['checkpoint']}")
        if (attempt := self.told.get("attempt")) and attempt > 1:
            parts.append(f"start {attempt}")
        parts += [str(self.told[key]) for key in ("why", "unknown") if key in self.told]
        yield f"{self.name}: {', '.join(parts)}"
        if "tracking" in self.told:
            yield f"  {self.told['tracking'] or 'the MLflow server does not know it yet'}"
        for host, steps in self.ranks.items():
            said = steps if isinstance(steps, str) else ", ".join(f"{name} {step}" for name, step in steps.items())
            yield f"  {host}: {said or 'nothing logged'}"


def named(stack: Stack, run: str) -> tuple[DeclaredResource, ...]:
    """Return the resources of *run*, the chief's last.

    Raises:
        DeclarationError: the stack has no such run.
    """
    runs = stack.fleet.runs
    if run not in runs:
        want, fix = f"runs of stack {stack.name}: {', '.join(runs) or 'none'}", hint(run, runs, "Take one of these")
        raise DeclarationError("run", f"got {run!r}", want, fix)
    return tuple(each for each in declare(stack) if isinstance(each.spec, TrainingSpec) and each.spec.name == run)


def look(hosts: Hosts, stack: Stack, run: str) -> RunReport:
    """Look at all hosts of *run* at once."""
    resources = named(stack, run)

    def of(declared: DeclaredResource) -> dict[str, Any]:
        try:
            told: dict[str, Any] = declared.kind.report(declared.spec, hosts.facts(declared.spec.host, fresh=True))
            return told
        except RackwrightError as error:
            return {"unknown": f"not reached: {error.got}"}

    with ThreadPoolExecutor(AT_ONCE) as pool:
        found = dict(zip((each.spec.host for each in resources), pool.map(of, resources), strict=True))
    chief = found[resources[-1].spec.host]
    ranks = {host: told.get("unknown") or told.get("ranks", {}) for host, told in reversed(found.items())}
    return RunReport(run, {name: value for name, value in chief.items() if name != "ranks"}, ranks)


def logs(hosts: Hosts, stack: Stack, run: str, lines: int, follow: bool, progress: Progress) -> None:
    """Pass the last *lines* of the log of *run* to *progress*, and then each new line, if *follow*.

    The run's own account reads the log on the chief, so root opens no path that this account could have replaced.

    Raises:
        StepFailed: there is no log.
    """
    chief = _chief(stack, run)
    following = ["--follow=name", "--retry"] if follow else []
    tail = ("runuser", "-u", chief.account, "--", "tail", f"--lines={lines}", *following, chief.log)
    seconds = float("inf") if follow else 60.0
    done = hosts.connection(chief.host).run(tail, timeout=min(seconds, 7 * 86400), on_line=progress)
    if done.status:
        raise StepFailed(
            run, f"got no log on {chief.host}", "a run has one from its first start", "Run `rackwright up`"
        )


def stop(hosts: Hosts, stack: Stack, run: str, progress: Progress) -> None:
    """Let *run* save and end; that it does not run shows in preview and audit, and `up` starts it again.

    Raises:
        StepFailed: it does not run there, or did not end.
    """
    chief = _chief(stack, run)
    with hosts.lease(chief.host, chief.id, progress):
        progress(f"{run} is told to stop, and saves first")
        stopped = ("systemctl", "stop", chief.unit)
        done = hosts.connection(chief.host).run(stopped, timeout=chief.grace_seconds + SLACK_SECONDS)
    if done.status:
        fix = f"Look at {command('rackwright run logs {} {}', stack.name, run)}"
        raise StepFailed(run, f"systemctl says {done.stderr.strip()!r}", "a run that was started can be stopped", fix)


def wait(hosts: Hosts, stack: Stack, run: str, seconds: float | None, progress: Progress) -> RunReport:
    """Return how *run* is when it runs no more, or after so many *seconds*; *progress* hears how it gets on."""
    deadline = None if seconds is None else time.monotonic() + seconds
    before = ""
    while True:
        report = look(hosts, stack, run)
        over = report.outcome not in ("running", "unknown")
        if over or (deadline is not None and time.monotonic() >= deadline):
            return report
        if (told := str(report).splitlines()[0]) != before:
            progress(told)
            before = told
        time.sleep(POLL_SECONDS)
        hosts.try_again()


def _chief(stack: Stack, run: str) -> TrainingSpec:
    declared = named(stack, run)[-1]
    assert isinstance(declared.spec, TrainingSpec) and declared.token == TrainingRunKind.token
    return declared.spec
