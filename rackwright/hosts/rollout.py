"""Decide which hosts may change now: canaries first, then batches, each after the one before it converged."""

import threading
import time
from collections.abc import Callable, Collection, Iterator, Sequence, Set
from contextlib import contextmanager
from dataclasses import dataclass, field

from rackwright.errors import ChangeRefused, Diagnostic, HostUnreachable, StepFailed, UserError
from rackwright.progress import Progress
from rackwright.schema.rollout import Rollout

WINDOW_SECONDS = 1.0
"""Seconds that a batch waits for further hosts; later hosts go with a later batch."""
COMING_SECONDS = 30.0
"""Longest wait in seconds for hosts that are being probed and may join; a host that hangs delays no batch further."""
POLL_SECONDS = 0.5
_AGAIN = "run the same command again"


class RolloutHalted(StepFailed):
    """A host was not changed, because other hosts failed before it."""


@dataclass
class _RolloutGroup:
    """The hosts of one change."""

    asked_first: float = 0.0
    """Time when the first of the waiting hosts joined."""
    asked_last: float = 0.0
    waiting: list[str] = field(default_factory=list)
    going: set[str] = field(default_factory=set)
    done: set[str] = field(default_factory=set)
    failed: dict[str, str] = field(default_factory=dict)

    def ask(self, host: str) -> None:
        self.asked_last = time.monotonic()
        if not self.waiting:
            self.asked_first = self.asked_last
        self.waiting.append(host)

    def next_batch(self, policy: Rollout, window_seconds: float, coming: Set[str]) -> int:
        """Return the size of the next batch: 0 while the last batch runs, or after too many failures."""
        if self.going or not self.waiting or len(self.failed) > policy.max_failures:
            return 0
        now = time.monotonic()
        if now - self.asked_last < window_seconds:
            return 0
        if coming - {*self.waiting} and now - self.asked_first < COMING_SECONDS:
            return 0
        hosts = len(self.waiting) + len(self.done) + len(self.failed)
        return policy.batch_of(hosts) if self.done else policy.canary

    def admit(self, hosts: Sequence[str]) -> None:
        self.going |= {*hosts}
        self.waiting = [host for host in self.waiting if host not in self.going]


class RolloutGate:
    """The rollout slots of one process. Any thread may call it."""

    def __init__(
        self,
        policy: Rollout,
        cancelled: Callable[[], bool],
        window_seconds: float = WINDOW_SECONDS,
        limit: int | None = None,
        unreachable: Callable[[], Set[str]] = frozenset,
        coming: Callable[[], Set[str]] = frozenset,
    ) -> None:
        """
        Args:
            limit: Number of hosts that may be unavailable at once in all rollout groups; None for no limit.
            unreachable: Returns the hosts that were not reached. They count as unavailable.
            coming: Returns the hosts that are being probed. They may join the next batch.
        """
        self._policy, self._cancelled, self._window_seconds = policy, cancelled, window_seconds
        self._limit, self._unreachable, self._coming = limit, unreachable, coming
        self._rollout_groups: dict[str, _RolloutGroup] = {}
        self._changed = threading.Condition()

    @contextmanager
    def slot(self, rollout_group: str, host: str, progress: Progress) -> Iterator[None]:
        """Wait until *host* may change. A block that raises counts as failed, unless its host was not reached.

        Args:
            rollout_group: Name of the change, the same for all its hosts.
            progress: Called with the reason of each wait.

        Raises:
            RolloutHalted: too many hosts failed, or so many are not reached that no other may be unavailable.
        """
        state = self._wait(rollout_group, host, progress)
        try:
            yield
        except (
            HostUnreachable,
            ChangeRefused,
        ):  # nothing was changed there, so it is no evidence about the other hosts
            self._leave(state, host, None)
            raise
        except BaseException as error:
            self._leave(state, host, error.diagnostic.problem if isinstance(error, UserError) else str(error))
            raise
        else:
            with self._changed:
                state.done.add(host)
            self._leave(state, host, None)

    def going(self, rollout_group: str) -> frozenset[str]:
        """Return the hosts whose slot in *rollout_group* has begun and not ended."""
        with self._changed:
            return (
                frozenset(self._rollout_groups[rollout_group].going)
                if rollout_group in self._rollout_groups
                else frozenset()
            )

    def _wait(self, rollout_group: str, host: str, progress: Progress) -> _RolloutGroup:
        with self._changed:
            state = self._rollout_groups.setdefault(rollout_group, _RolloutGroup())
            state.ask(host)
            last = ""
            while True:
                lost = self._unreachable()
                state.admit(self._next(state, lost))
                if host in state.going:
                    self._changed.notify_all()
                    return state
                if diagnostic := self._hopeless(f"{host}/{rollout_group}", host, state, lost):
                    state.waiting.remove(host)
                    raise RolloutHalted(diagnostic)
                if last != (last := self._reason(state, lost) or last):
                    progress(last)
                self._changed.wait(POLL_SECONDS)

    def _next(self, state: _RolloutGroup, lost: Set[str]) -> list[str]:
        """Return the next batch of the group, as far as the limit allows. An unavailable host needs no room.

        The batch begins as a whole, once no other group changes one of its hosts. A host has one change at a time, and
        hosts with changes in different orders would each need a separate Ansible run.
        """
        size, away = state.next_batch(self._policy, self._window_seconds, self._coming()), {*lost, *self._going()}
        chosen: list[str] = []
        busy = self._busy(state)
        for host in sorted(state.waiting, key=lambda host: (host in busy, host)):
            if len(chosen) < size and (host in away or self._limit is None or len(away) < self._limit):
                chosen.append(host)
                away.add(host)
        return [] if busy & {*chosen} else chosen

    def _busy(self, state: _RolloutGroup) -> set[str]:
        """Return the hosts that other groups are changing."""
        return {
            host
            for rollout_group in self._rollout_groups.values()
            if rollout_group is not state
            for host in rollout_group.going
        }

    def _going(self) -> set[str]:
        return {host for rollout_group in self._rollout_groups.values() for host in rollout_group.going}

    def _reason(self, state: _RolloutGroup, lost: Set[str]) -> str:
        """Return what a host of the group waits for; empty while it waits only for further hosts to join."""
        going = self._going()
        if state.going:
            return f"waiting for {_names(state.going)} to be as declared"
        if busy := self._busy(state) & {*state.waiting}:
            return f"waiting for {_names(busy)} to be as declared otherwise"
        if self._limit is None or len(going | lost) < self._limit:
            return ""
        return f"waiting: {_away(going, lost)}, at most {self._limit} at a time"

    def _hopeless(self, where: str, host: str, state: _RolloutGroup, lost: Set[str]) -> Diagnostic | None:
        """Return why *host* must not wait any longer; None if it may."""
        note = f"no step was run on {host}"
        if len(state.failed) > (limit := self._policy.max_failures):
            problem = "; ".join(f"{other} failed: {reason}" for other, reason in state.failed.items())
            expected = f"at most {limit} failed host{'s' * (limit != 1)} in a rollout"
            return Diagnostic(where, problem, expected, f"Correct that, and {_AGAIN}", note, id="rollout-stopped")
        if self._cancelled():
            problem, help = "cancelled while waiting for its rollout slot", _AGAIN.capitalize()
            return Diagnostic(where, problem, help=help, note=note, id="rollout-stopped")
        if self._limit is not None and len(lost) >= self._limit and host not in lost | self._going():
            expected = f"at most {self._limit} of the fleet changed or not reached at once"
            help = f"Bring them back, or raise rollout.max_unavailable, and {_AGAIN}"
            return Diagnostic(where, _away((), lost), expected, help, note, id="rollout-stopped")
        return None

    def _leave(self, state: _RolloutGroup, host: str, failure: str | None) -> None:
        with self._changed:
            state.going.discard(host)
            if failure is not None:
                state.failed[host] = failure
            self._changed.notify_all()


def _away(going: Collection[str], lost: Collection[str]) -> str:
    """Return ``gpu-03, gpu-07 are being changed and gpu-05 is not reached``, each host once, in its worse state."""
    changed = {*going} - {*lost}
    states = [(changed, "being changed"), (lost, "not reached")]
    return " and ".join(
        f"{_names(hosts)} {'is' if len(hosts) == 1 else 'are'} {state}" for hosts, state in states if hosts
    )


def _names(hosts: Collection[str]) -> str:
    return ", ".join(sorted(hosts))
