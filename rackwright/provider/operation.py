"""A running call on one resource: its log, its timeout, and the state to save if it fails half-way."""

import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

from rackwright.core.contract import Claim, Difference, Plan
from rackwright.core.wire import JSON
from rackwright.provider.outcomes import Outcome

T = TypeVar("T")

_OUT_OF_TIME = (
    "not done after {seconds:g} s; no further step starts. Check the host, then run it again: it keeps all claims that"
    " already hold. Set customTimeouts of the resource for a longer time."
)


class Log(Protocol):
    """The log of an operation: the resource's row in Pulumi's display."""

    def status(self, text: str) -> None:
        """Show *text* while the operation runs, and forget it."""
        ...

    def info(self, text: str) -> None: ...

    def warn(self, text: str, outcome: Outcome) -> None:
        """Show a warning, and record its *outcome* for the exit status of the command."""
        ...

    def note(self, outcome: Outcome) -> None:
        """Record *outcome* for the exit status of the command, without a message."""
        ...

    def plan(
        self, claims: Sequence[Claim], plan: Plan, differences: Iterable[Difference], changes: str, known_later: int
    ) -> None:
        """Record the plan of a preview, without a message.

        Args:
            changes: The unified diffs of its files.
            known_later: The number of properties that are unknown until the steps have run.
        """
        ...


@dataclass(frozen=True)
class SavedState:
    """The state of a resource that exists although its creation or change failed."""

    id: str
    outputs: Mapping[str, JSON]


class OperationStopped(Exception):
    """The operation was stopped: it must not go on."""


class OutOfTime(OperationStopped):
    """The operation took longer than its timeout."""


class OperationCancelled(OperationStopped):
    """The user or the engine cancelled the operation."""


class Operation:
    """A running call. Its work may outlive it, but starts no further step after a stop."""

    def __init__(self, log: Log) -> None:
        self.info, self.warn, self.note, self.plan = log.info, log.warn, log.note, log.plan
        self._status = log.status
        self._over = threading.Event()
        self._stopped: OperationStopped | None = None
        self.saved_state: SavedState | None = None
        """The state to save after a failure; set from the first step on."""

    def status(self, text: str) -> None:
        """Show the next action.

        Raises:
            OperationStopped: the operation was stopped, so the action must not start.
        """
        if self._stopped:
            raise self._stopped
        self._status(text)

    def save_state(self, id: str, outputs: Mapping[str, JSON]) -> None:
        self.saved_state = SavedState(id, outputs)

    def stop(self, reason: OperationStopped) -> None:
        self._stopped = self._stopped or reason
        self._over.set()

    def run(self, work: Callable[[], T], seconds: float) -> T:
        """Return what *work* returns, or raise what it raises.

        Raises:
            OperationStopped: the operation was stopped, or was not done after *seconds*. *work* may still run then.
        """
        outcome: list[T] = []
        failure: list[BaseException] = []

        def attempt() -> None:
            try:
                outcome.append(work())
            except BaseException as error:
                failure.append(error)
            self._over.set()

        threading.Thread(target=attempt, daemon=True).start()
        if not self._over.wait(seconds):
            self.stop(OutOfTime(_OUT_OF_TIME.format(seconds=seconds)))
        if outcome:
            return outcome[0]
        raise self._stopped or failure[0]
