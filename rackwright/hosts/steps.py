"""Run the steps of a plan in order, and report which steps ran when one fails."""

import re
from collections.abc import Callable, Sequence
from functools import partial

from rackwright.core.contract import Call, Command, LogIn, PlayRole, Put, PutOutput, Reboot, Step
from rackwright.errors import Diagnostic, HostUnreachable, StepFailed
from rackwright.hosts import restart
from rackwright.hosts.pool import ChangeCancelled, Hosts
from rackwright.hosts.session import NotDone, WaitInterrupted
from rackwright.progress import Progress

AGAIN = "Correct the cause, and run the same command again, which plans from the actual state"
RESUME = "Run the same command again, which plans from the actual state"
NO_PACKAGE = re.compile("No package matching|Unable to locate package|has no installation candidate")
"""Texts of apt and of Ansible's module about a package that no source of the host has."""
SOURCE = (
    "Give the host a source of the package: `mirror` with a lock in the fleet, or on a twin `rackwright:mirrors: lent`"
    " in its settings and `rackwright twin reset STACK`. Then run the same command again"
)

Play = Callable[[PlayRole, str, Progress], None]
"""Plays a role on a host; see rackwright.hosts.ansible."""


def no_roles(step: PlayRole, host: str, progress: Progress) -> None:
    raise NotDone("there is nothing here that plays roles")


def execute(hosts: Hosts, host: str, id: str, steps: Sequence[Step], progress: Progress, play: Play = no_roles) -> None:
    """Run *steps* on *host*, whose lease the caller holds for *id*, and report each step just before it runs.

    Raises:
        StepFailed: a step failed; the message lists the steps that ran and those that did not.
        ChangeCancelled: the pool was cancelled; a running step finishes on the host.
    """
    for number, step in enumerate(steps, start=1):
        which = f"step {number} of {len(steps)} ({step.text})"
        if hosts.is_cancelled:
            raise ChangeCancelled(
                Diagnostic(id, f"cancelled before {which}", help=RESUME, note=_account(steps, number))
            )
        assert not isinstance(step, Call), "requests go to endpoints"
        progress(step.text)
        step_progress = partial(_prefix_progress, progress, step.text)
        try:
            if isinstance(step, PlayRole):
                play(step, host, step_progress)
            elif isinstance(step, LogIn):
                hosts.check_login(host)
            elif isinstance(step, PutOutput):
                _put_output(hosts, host, step, number, step_progress)
            elif isinstance(step, Reboot):
                restart.drain(hosts.session(host), number, step_progress)
                hosts.restart(host, id, partial(restart.begin, step, number), step_progress)
                restart.settle(hosts.session(host), number, step_progress)
            else:
                hosts.session(host).perform(step, number, step_progress)
        except NotDone as reason:
            output = f', and printed "{" / ".join(reason.output)}"' if reason.output else ""
            problem = f"{which} failed on {host}: {reason}{output}"
            if NO_PACKAGE.search(problem):
                raise StepFailed(
                    Diagnostic(id, problem, help=SOURCE, note=_account(steps, number), id="package-unavailable")
                ) from None
            raise StepFailed(
                Diagnostic(id, problem, help=AGAIN, note=_account(steps, number), id="step-failed")
            ) from None
        except HostUnreachable as lost:
            raise StepFailed(
                Diagnostic(
                    id,
                    f"{which} on {host}: {lost.diagnostic.problem}",
                    help=AGAIN,
                    note=_account(steps, number),
                    id="connection-lost",
                )
            ) from None
        except WaitInterrupted:
            raise ChangeCancelled(
                Diagnostic(
                    id, f"cancelled while {which} continues on {host}", help=RESUME, note=_account(steps, number)
                )
            ) from None
        finally:
            hosts.forget_facts(host)


def _put_output(hosts: Hosts, host: str, step: PutOutput, number: int, progress: Progress) -> None:
    """Run the command of *step* on its host, and write what it prints on *host*.

    Raises:
        NotDone: the command failed; only what it prints as its errors is repeated.
    """
    result = hosts.connection(step.source).run(step.argv, timeout=step.timeout_seconds)
    if result.status:
        errors = tuple(result.stderr.strip().splitlines()[-3:])
        raise NotDone(f"the command on {step.source} ended with status {result.status}", errors)
    hosts.forget_facts(step.source)
    if step.path:
        content = result.stdout.decode()
        hosts.session(host).perform(Put(step.text, step.path, content, mode=0o600), number, progress)


def _prefix_progress(progress: Progress, step: str, text: str) -> None:
    progress(f"{step}: {text}")


def _account(steps: Sequence[Step], number: int) -> str:
    """Return what was done, what the host undoes by itself, and what was not begun, after step *number* failed."""
    done, after = steps[: number - 1], steps[number:]
    armed, seconds = _pending_undo(done)
    parts = [f"done: {_texts(done[:armed])}" if done[:armed] else "no step was done before it"]
    if seconds is not None:
        parts.append(f"within {seconds} s the host itself undoes the steps after its timer was set")
    if after:
        parts.append(f"not begun: {_texts(after)}")
    return "; ".join(parts)


def _pending_undo(done: Sequence[Step]) -> tuple[int, int | None]:
    """Return the index of the step in *done* that set an undo timer still running, and its seconds."""
    for index, step in enumerate(done):
        if isinstance(step, Command) and step.undo_after_seconds is not None:
            logins = [later for later, other in enumerate(done) if later > index and isinstance(other, LogIn)]
            if not logins or logins[0] == len(done) - 1:  # the step after the login stops the timer
                return index, step.undo_after_seconds
    return len(done), None


def _texts(steps: Sequence[Step]) -> str:
    return "; ".join(step.text for step in steps)
