"""Who may change now: some hosts first, then the others in batches, each only when those before it are as declared."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from rackwright.errors import HostUnreachable, StepFailed
from rackwright.spec.rollout import Rollout

WINDOW_SECONDS = 1.0
"""How long a wave waits for hosts: those that ask later go with a later one."""
POLL_SECONDS = 0.5


class HeldBack(StepFailed):
    """Nothing was done on a host, since others failed before it."""


@dataclass
class _Wave:
    """The hosts that ask for one change."""

    asked_last: float = 0.0
    waiting: list[str] = field(default_factory=list)
    going: set[str] = field(default_factory=set)
    done: set[str] = field(default_factory=set)
    failed: dict[str, str] = field(default_factory=dict)

    def admit(self, policy: Rollout, window_seconds: float) -> None:
        """Let the next hosts go, if none of those before is still at it and no more have failed than may."""
        if self.going or not self.waiting or len(self.failed) > policy.max_failures:
            return
        if time.monotonic() - self.asked_last < window_seconds:
            return
        hosts = len(self.waiting) + len(self.done) + len(self.failed)
        size = policy.batch_of(hosts) if self.done else policy.canary
        self.going = set(sorted(self.waiting)[:size])
        self.waiting = [host for host in self.waiting if host not in self.going]


class Turns:
    """The turns of one process. Any thread may call."""

    def __init__(self, policy: Rollout, cancelled: Callable[[], bool], window_seconds: float = WINDOW_SECONDS) -> None:
        self._policy, self._cancelled, self._window_seconds = policy, cancelled, window_seconds
        self._waves: dict[str, _Wave] = {}
        self._changed = threading.Condition()

    @contextmanager
    def turn(self, wave: str, host: str, say: Callable[[str], None]) -> Iterator[None]:
        """Wait until *host* may change; a block that raises has failed, unless the host was not reached.

        Args:
            wave: Name of the change, the same for all hosts it is to reach.
            say: Told what is waited for.

        Raises:
            HeldBack: more hosts failed than may.
        """
        state = self._wait(wave, host, say)
        try:
            yield
        except HostUnreachable:
            self._leave(state, host, None)
            raise
        except BaseException as error:
            self._leave(state, host, str(error))
            raise
        else:
            with self._changed:
                state.done.add(host)
            self._leave(state, host, None)

    def _wait(self, wave: str, host: str, say: Callable[[str], None]) -> _Wave:
        with self._changed:
            state = self._waves.setdefault(wave, _Wave())
            state.waiting.append(host)
            state.asked_last = time.monotonic()
            told = ""
            while True:
                state.admit(self._policy, self._window_seconds)
                if host in state.going:
                    self._changed.notify_all()
                    return state
                if len(state.failed) > self._policy.max_failures or self._cancelled():
                    state.waiting.remove(host)
                    raise self._held_back(wave, host, state)
                if state.going and told != (told := f"waiting for {', '.join(sorted(state.going))} to be as declared"):
                    say(told)
                self._changed.wait(POLL_SECONDS)

    def _leave(self, state: _Wave, host: str, failure: str | None) -> None:
        with self._changed:
            state.going.discard(host)
            if failure is not None:
                state.failed[host] = failure
            self._changed.notify_all()

    def _held_back(self, wave: str, host: str, state: _Wave) -> HeldBack:
        got = "; ".join(f"{other} failed: {reason}" for other, reason in state.failed.items()) or "got cancelled"
        most = self._policy.max_failures
        want = f"at most {most} may fail before the others are left alone; no step was run on {host}"
        return HeldBack(f"{host}/{wave}", got, want, "Mend that, then run the same command again")
