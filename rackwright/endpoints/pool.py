"""Hold one client and one shared reading of the facts for each endpoint of a process."""

import contextlib
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

from rackwright.core.contract import Call, EndpointSource, Step
from rackwright.errors import Diagnostic, EndpointUnreachable, StepFailed, Unreachable, UserError
from rackwright.facts.facts import Facts
from rackwright.foreign import excerpt
from rackwright.progress import Progress


class EndpointClient(Protocol):
    """The client of one endpoint. Each protocol has one implementation."""

    def read(self) -> Facts:
        """Return all facts of the endpoint, whatever is declared; changes nothing there.

        Raises:
            EndpointUnreachable: no answer, or none that can be used.
        """
        ...

    def call(self, id: str, step: Call) -> None:
        """Send the request of *step* for the resource *id*.

        Raises:
            StepFailed: the endpoint refused it.
            EndpointUnreachable: no answer.
        """
        ...


U = TypeVar("U", bound=Unreachable)


def unreadable(kind: type[U], where: str, error: Exception) -> U:
    """Return the error *kind* of an endpoint or host whose answer made its reader raise *error*."""
    problem = f"the answer cannot be read: {type(error).__name__}: {excerpt(error)}"
    help = "Check who controls it, and report the problem to the authors of rackwright"
    return kind(Diagnostic(where, problem, help=help))


@dataclass(eq=False, slots=True)
class _State:
    """State of one endpoint in this process."""

    using: threading.Lock = field(default_factory=threading.Lock)
    """Held while the endpoint is connected or read."""
    changing: threading.Lock = field(default_factory=threading.Lock)
    """Held while a resource of the endpoint changes."""
    client: EndpointClient | None = None
    facts: Facts | None = None
    unreachable: UserError | None = None
    """Reason why the endpoint was not read, stored so that its other resources do not wait for it again."""


class Endpoints:
    """The endpoints of a fleet, each connected and read on first use. Any thread may call any method."""

    def __init__(self, connect: Callable[[EndpointSource], EndpointClient]) -> None:
        """
        Args:
            connect: A function that returns the client of an endpoint, or raises a UserError.
        """
        self._connect = connect
        self._states: dict[EndpointSource, _State] = {}
        self._guard = threading.Lock()
        self._cancelled = threading.Event()

    def facts(self, source: EndpointSource, fresh: bool = False) -> Facts:
        """Return the facts of *source* from one reading, shared by all callers until the endpoint changes.

        Args:
            fresh: Require a reading that begins after this call.

        Raises:
            EndpointUnreachable: the endpoint does not answer, or did not earlier in this process.
        """
        state = self._state(source)
        with state.using:
            if state.unreachable:
                raise state.unreachable.with_traceback(None)
            if state.facts is None or fresh:
                try:
                    state.facts = self._client(source, state).read()
                except UserError as error:
                    state.unreachable, state.facts = error, None
                    raise
                except Exception as error:  # any: one odd answer ends the reading of no other endpoint
                    state.unreachable, state.facts = unreadable(EndpointUnreachable, str(source), error), None
                    raise state.unreachable from error
            return state.facts

    @contextlib.contextmanager
    def lease(self, source: EndpointSource) -> Iterator[None]:
        """Keep other resources of *source* from changing in this process."""
        with self._state(source).changing:
            yield

    def execute(self, source: EndpointSource, id: str, steps: Sequence[Step], progress: Progress) -> None:
        """Send the requests of *steps* in order; *progress* is called with the text of each.

        Raises:
            StepFailed: the endpoint refused a request, or the work was cancelled. Later steps do not begin.
        """
        state = self._state(source)
        try:
            for number, step in enumerate(steps):
                if self._cancelled.is_set():
                    note = f"{number} of {len(steps)} requests were sent"
                    raise StepFailed(Diagnostic(id, "cancelled", help="Run the same command again", note=note))
                assert isinstance(step, Call), f"an endpoint has no step like {step}"
                progress(step.text)
                with state.using:
                    client = self._client(source, state)
                client.call(id, step)
        finally:
            with state.using:
                state.facts = None

    def cancel(self) -> None:
        """Begin no further step."""
        self._cancelled.set()

    def _client(self, source: EndpointSource, state: _State) -> EndpointClient:
        if state.client is None:
            state.client = self._connect(source)
        return state.client

    def _state(self, source: EndpointSource) -> _State:
        with self._guard:
            return self._states.setdefault(source, _State())
