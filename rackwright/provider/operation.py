"""One call on one resource while it runs: what it says, how long it may take, and what is kept if it fails half-way."""

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol, TypeVar

from rackwright.core.wire import JSON
from rackwright.provider.outcomes import Outcome

T = TypeVar("T")

_OUT_OF_TIME = (
    "not done after {seconds:g} s; no further step is begun. Look at the host, then run it again: what holds already is"
    " left alone. customTimeouts of the resource give it longer."
)


class Log(Protocol):
    """Where an operation speaks: the resource's row in Pulumi's display."""

    def status(self, text: str) -> None:
        """Show *text* while the operation runs, and forget it."""
        ...

    def info(self, text: str) -> None: ...

    def warn(self, text: str, outcome: Outcome) -> None:
        """Say what a person should know of, and what it means for the exit status of the whole."""
        ...

    def note(self, outcome: Outcome) -> None:
        """Only the latter."""
        ...


@dataclass(frozen=True)
class SavedState:
    """A resource that exists although making or changing it failed."""

    id: str
    outputs: Mapping[str, JSON]


class Stopped(Exception):
    """The operation shall not go on."""


class OutOfTime(Stopped):
    """It took longer than its timeout."""


class Cancelled(Stopped):
    """The user, or the engine, wants no more of it."""


class Operation:
    """A running call. Its work may outlive it, but starts no further step once it is stopped."""

    def __init__(self, log: Log) -> None:
        self.info, self.warn, self.note = log.info, log.warn, log.note
        self._status = log.status
        self._over = threading.Event()
        self._stopped: Stopped | None = None
        self.kept: SavedState | None = None
        """Set from the first step on: a failure after it must not be forgotten by the state."""

    def status(self, text: str) -> None:
        """Say what is about to happen.

        Raises:
            Stopped: it must not happen any more.
        """
        if self._stopped:
            raise self._stopped
        self._status(text)

    def keep(self, id: str, outputs: Mapping[str, JSON]) -> None:
        self.kept = SavedState(id, outputs)

    def stop(self, reason: Stopped) -> None:
        self._stopped = self._stopped or reason
        self._over.set()

    def run(self, work: Callable[[], T], seconds: float) -> T:
        """Return what *work* returns, or raise what it raises.

        Raises:
            Stopped: it was stopped, or was not done after *seconds*. A step that hangs on a host is not waited for.
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
