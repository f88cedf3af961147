"""The hosts of one process: one connection, one shared probe and one lock each."""

import contextlib
import json
import random
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar

from rackwright.apply.session import Interrupted, NotDone, Session
from rackwright.apply.transport import Connection, ConnectionLost
from rackwright.errors import HostUnreachable, RackwrightError, StepFailed
from rackwright.facts import probe
from rackwright.facts.facts import Facts
from rackwright.spec.ssh import Endpoint

PROBE_SECONDS = 180.0
SIMULTANEOUS = 64
JITTER_SECONDS = 1.0
"""Before a dropped connection is made again: many drop at once where a switch or a jump host restarts."""
POLL_SECONDS = 0.5
_TEXTS = """
import json, sys
found = {}
for path in json.load(sys.stdin):
    try:
        with open(path, encoding="utf-8", newline="") as file:
            found[path] = file.read(1 << 20)
    except (OSError, ValueError):
        found[path] = None
json.dump(found, sys.stdout)
"""
T = TypeVar("T")


class Cancelled(StepFailed):
    """The work was told to stop."""


@dataclass(eq=False, slots=True)
class _State:
    """What this process holds of one host."""

    endpoint: Endpoint
    connecting: threading.Lock = field(default_factory=threading.Lock)
    connection: Connection | None = None
    unreachable: RackwrightError | None = None
    """Why it was not reached. Kept, so that its other resources do not wait for it again."""

    probing: threading.Lock = field(default_factory=threading.Lock)
    facts: Facts | None = None
    changes: int = 0
    """How often it was said that the host changed: a probe that began before is not kept."""

    changing: threading.Lock = field(default_factory=threading.Lock)
    session: Session | None = None


class Hosts:
    """Every host of a fleet, connected to when first asked for. All methods may be called from any thread."""

    def __init__(self, endpoints: Mapping[str, Endpoint], salt: bytes, simultaneous: int = SIMULTANEOUS) -> None:
        """
        Args:
            endpoints: By host name; looked into whenever a host is asked for.
            salt: Key of the digests that probes return.
            simultaneous: How many hosts are connected to, or probed, at once.
        """
        self._endpoints, self._salt = endpoints, salt
        self._slots = threading.Semaphore(simultaneous)
        self._states: dict[Endpoint, _State] = {}
        self._guard = threading.Lock()
        self._cancelled = threading.Event()

    @property
    def cancelled(self) -> bool:
        return self._cancelled.is_set()

    def cancel(self) -> None:
        """Begin no further step; what waits for a lock or a step raises Cancelled."""
        self._cancelled.set()

    def close(self) -> None:
        with self._guard:
            states = list(self._states.values())
        for state in states:
            if state.connection:
                state.connection.close()

    def connection(self, host: str) -> Connection:
        """Return the one connection to *host*, made anew where it was dropped.

        Raises:
            HostUnreachable: now, or earlier in this process.
            HostKeyRefused: its key is not the pinned one.
        """
        return self._connected(self._state(self._endpoint(host)))

    def unreachable(self) -> frozenset[str]:
        """Return the hosts that this process did not reach."""
        with self._guard:
            states = list(self._states.values())
        return frozenset(state.endpoint.host for state in states if state.unreachable) & {*self._endpoints}

    def log_in_anew(self, host: str) -> None:
        """Make one more connection to *host*, by the first of its logins alone, and let it go again.

        Raises:
            NotDone: it cannot be logged in to that way any more.
        """
        state = self._state(self._endpoint(host))
        endpoint = replace(state.endpoint, logins=state.endpoint.logins[:1])
        via = self._connected(self._state(endpoint.jump)) if endpoint.jump else None
        try:
            connection = Connection(endpoint, via)
        except RackwrightError as error:
            raise NotDone(str(error)) from None
        try:
            if connection.run(("true",)).status:
                raise NotDone(f"user {connection.login.user} gets in and can run nothing")
        finally:
            connection.close()

    def facts(self, host: str, fresh: bool = False) -> Facts:
        """Return what one probe saw on *host*, shared by all who ask until the host is changed.

        Args:
            fresh: Only a probe that began after this call will do.
        """
        state = self._state(self._endpoint(host))
        with state.probing:
            if state.facts is not None and not fresh:
                return state.facts
            changes = state.changes
            facts = self._again_if_dropped(state, self._probe)
            state.facts = facts if state.changes == changes else None
            return facts

    def texts(self, host: str, paths: Sequence[str]) -> dict[str, str | None]:
        """Return the texts of files as they are now; None for one that is not there, or is no text."""
        state = self._state(self._endpoint(host))
        argv = ("python3", "-I", "-S", "-X", "utf8", "-c", _TEXTS, "texts")
        result = self._again_if_dropped(state, lambda link: link.run(argv, json.dumps([*paths]).encode()))
        if result.status:
            raise self.connection(host).useless(argv, result)
        found: dict[str, str | None] = json.loads(result.stdout)
        return found

    def changed(self, host: str) -> None:
        """Forget the facts of *host*: something was, or may have been, changed on it."""
        state = self._state(self._endpoint(host))
        state.changes += 1
        state.facts = None

    @contextlib.contextmanager
    def lock(self, host: str, id: str, say: Callable[[str], None]) -> Iterator[None]:
        """Hold the lock of *host* for the resource *id*: nobody else changes it, from this process or another.

        Args:
            say: Told what is waited for.

        Raises:
            HostBusy: somebody else changes the host, for longer than one waits.
            Cancelled: while waiting.
        """
        state = self._state(self._endpoint(host))
        try:
            with self._alone(state, say):
                session = self._again_if_dropped(state, lambda link: Session(link, id, say, self._cancelled.is_set))
                self.changed(host)  # whoever had the lock before may have changed it
                state.session = session
                try:
                    yield
                finally:
                    state.session = None
                    session.close()
        except Interrupted:
            raise Cancelled(
                id, f"cancelled while waiting for {host}", "no step was run", "Run the same command again"
            ) from None

    def session(self, host: str) -> Session:
        """Return the session of the lock that the caller holds on *host*."""
        session = self._state(self._endpoint(host)).session
        assert session is not None, f"the lock of {host} is not held"
        return session

    @contextlib.contextmanager
    def _alone(self, state: _State, say: Callable[[str], None]) -> Iterator[None]:
        if not state.changing.acquire(blocking=False):
            say("waiting for another change of this host to end")
            while not state.changing.acquire(timeout=POLL_SECONDS):
                if self.cancelled:
                    raise Interrupted
        try:
            yield
        finally:
            state.changing.release()

    def _endpoint(self, host: str) -> Endpoint:
        try:
            return self._endpoints[host]
        except KeyError:
            raise HostUnreachable(
                host, "no address is known for it", "its fleet or its twin names one", "Declare it, or start the twin"
            ) from None

    def _state(self, endpoint: Endpoint) -> _State:
        with self._guard:
            return self._states.setdefault(endpoint, _State(endpoint))

    def _connected(self, state: _State) -> Connection:
        with state.connecting:
            if state.unreachable:
                raise state.unreachable.with_traceback(None)
            if not (state.connection and state.connection.alive):
                try:
                    state.connection = self._connect(state.endpoint)
                except RackwrightError as error:
                    state.unreachable = error
                    raise
            return state.connection

    def _connect(self, endpoint: Endpoint) -> Connection:
        if not endpoint.jump:
            with self._slots:
                return Connection(endpoint)
        try:
            via = self._connected(self._state(endpoint.jump))
        except RackwrightError as error:
            where = f"{endpoint.host} through {error.where}"
            raise type(error)(where, error.got, error.want, error.fix, error.source) from None
        with self._slots:
            return Connection(endpoint, via)

    def _probe(self, connection: Connection) -> Facts:
        with self._slots:
            result = connection.run(probe.command(), probe.stdin(self._salt), PROBE_SECONDS)
        if result.status:
            raise connection.useless(probe.command(), result)
        return probe.parse(result.stdout, connection.endpoint.host)

    def _again_if_dropped(self, state: _State, work: Callable[[Connection], T]) -> T:
        """Do *work*, which changes nothing on the host: once more, over a new connection, where the old one is dead."""
        try:
            return work(self._connected(state))
        except ConnectionLost:
            time.sleep(random.uniform(0, JITTER_SECONDS))
            return work(self._connected(state))
