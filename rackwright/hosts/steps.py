"""Doing a plan: its steps in order, and an account of what was done where one fails."""

from collections.abc import Callable, Sequence
from functools import partial

from rackwright.core.contract import Command, LogIn, PlayRole, Reboot, Step
from rackwright.errors import HostUnreachable, StepFailed
from rackwright.hosts import restart
from rackwright.hosts.pool import Cancelled, Hosts
from rackwright.hosts.session import Interrupted, NotDone
from rackwright.progress import Progress

AGAIN = "Run the same command again afterwards: it plans anew from what it finds"


Play = Callable[[PlayRole, str, Progress], None]
"""Plays a role on a host; see rackwright.hosts.ansible."""


def no_roles(step: PlayRole, host: str, progress: Progress) -> None:
    raise NotDone("there is nothing here that plays roles")


def execute(hosts: Hosts, host: str, id: str, steps: Sequence[Step], progress: Progress, play: Play = no_roles) -> None:
    """Do *steps* on *host*, whose lock the caller holds for *id*; each step's text is said just before it runs.

    Raises:
        StepFailed: one step did not end well; says what was done and what was not.
        Cancelled: the pool was cancelled; a step that was running is left to finish on the host.
    """
    for number, step in enumerate(steps, start=1):
        which = f"step {number} of {len(steps)} ({step.text})"
        if hosts.cancelled:
            raise Cancelled(id, f"cancelled before {which}", _account(steps, number), AGAIN)
        progress(step.text)
        step_progress = partial(_prefix_progress, progress, step.text)
        try:
            if isinstance(step, PlayRole):
                play(step, host, step_progress)
            elif isinstance(step, LogIn):
                hosts.log_in_anew(host)
            elif isinstance(step, Reboot):
                restart.drain(hosts.session(host), number, step_progress)
                hosts.restart(host, id, partial(restart.begin, step, number), step_progress)
                restart.settle(hosts.session(host), number, step_progress)
            else:
                hosts.session(host).perform(step, number, step_progress)
        except NotDone as reason:
            said = f', and said "{" / ".join(reason.output)}"' if reason.output else ""
            got = f"{which} failed on {host}: {reason}{said}"
            raise StepFailed(id, got, _account(steps, number), AGAIN) from None
        except HostUnreachable as lost:
            raise StepFailed(id, f"{which} on {host}: {lost.got}", _account(steps, number), AGAIN) from None
        except Interrupted:
            raise Cancelled(id, f"cancelled while {which} runs on on {host}", _account(steps, number), AGAIN) from None
        finally:
            hosts.changed(host)


def _prefix_progress(progress: Progress, step: str, text: str) -> None:
    progress(f"{step}: {text}")


def _account(steps: Sequence[Step], number: int) -> str:
    """Return what is done, what the host takes back by itself, and what is not done, as step *number* ended badly."""
    done, after = steps[: number - 1], steps[number:]
    armed, seconds = _armed(done)
    parts = [f"done and stays: {_texts(done[:armed])}" if done[:armed] else "no step was done before it"]
    if seconds is not None:
        parts.append(f"within {seconds} s the host puts back by itself what was done since its timer was set")
    if after:
        parts.append(f"not begun: {_texts(after)}")
    return "; ".join(parts)


def _armed(done: Sequence[Step]) -> tuple[int, int | None]:
    """Return at which of the steps *done* a timer was set that nobody has stopped, and for how many seconds."""
    for index, step in enumerate(done):
        if isinstance(step, Command) and step.undo_after_seconds is not None:
            logins = [later for later, other in enumerate(done) if later > index and isinstance(other, LogIn)]
            if not logins or logins[0] == len(done) - 1:  # the step behind the login stops it
                return index, step.undo_after_seconds
    return len(done), None


def _texts(steps: Sequence[Step]) -> str:
    return "; ".join(step.text for step in steps)
