"""The hosts of one process: one connection, one shared probe and one lock each."""

import contextlib
import json
import random
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar

from rackwright.errors import HostUnreachable, RackwrightError, StepFailed
from rackwright.facts import probe, program
from rackwright.facts.facts import Facts
from rackwright.hosts.session import Interrupted, NotDone, Session
from rackwright.hosts.transport import Connection, ConnectionLost
from rackwright.progress import Progress
from rackwright.schema.ssh import Endpoint

PROBE_SECONDS = 180.0
SIMULTANEOUS = 64
JITTER_SECONDS = 1.0
"""Before a dropped connection is made again: many drop at once where a switch or a jump host restarts."""
POLL_SECONDS = 0.5
RESTART_SECONDS = 900.0
"""How long a host may take to come back: firmware that tests terabytes of memory needs minutes."""
RETRY_SECONDS = 5.0
"""Between two looks whether it is back."""
BOOT_ID = "/proc/sys/kernel/random/boot_id"
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
        self._looked_at: set[str] = set()
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

    def looked_at(self) -> frozenset[str]:
        """Return the hosts that are being connected to, or probed, now."""
        with self._guard:
            return frozenset(self._looked_at)

    def log_in_anew(self, host: str) -> None:
        """Make one more connection to *host*, by the first login that changes it alone, and let it go again.

        Raises:
            NotDone: it cannot be logged in to that way any more.
        """
        state = self._state(self._endpoint(host))
        endpoint = replace(state.endpoint, logins=state.endpoint.first_change_login)
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
        with state.probing, self._looking(host):
            if state.facts is not None and not fresh:
                return state.facts
            changes = state.changes
            facts = self._again_if_dropped(state, self._probe)
            state.facts = facts if state.changes == changes else None
            return facts

    def gpus(self, host: str) -> Facts:
        """Return what there is to see of the GPUs of *host* now, and of other facts as many as come along."""
        return self._again_if_dropped(
            self._state(self._endpoint(host)), lambda link: self._look(link, probe.stdin_for_gpus())
        )

    def try_again(self) -> None:
        """Let whoever asks next for a host that was not reached connect to it once more."""
        with self._guard:
            states = list(self._states.values())
        for state in states:
            state.unreachable = None

    def texts(self, host: str, paths: Sequence[str]) -> dict[str, str | None]:
        """Return the texts of files as they are now; None for one that is not there, or is no text."""
        return self._again_if_dropped(self._state(self._endpoint(host)), lambda link: _texts(link, paths))

    def changed(self, host: str) -> None:
        """Forget the facts of *host*: something was, or may have been, changed on it."""
        state = self._state(self._endpoint(host))
        state.changes += 1
        state.facts = None

    @contextlib.contextmanager
    def lock(self, host: str, id: str, progress: Progress) -> Iterator[None]:
        """Hold the lock of *host* for the resource *id*: nobody else changes it, from this process or another.

        Args:
            say: Told what is waited for.

        Raises:
            HostBusy: somebody else changes the host, for longer than one waits.
            Cancelled: while waiting.
        """
        state = self._state(self._endpoint(host))
        try:
            with self._alone(state, progress):
                state.session = self._again_if_dropped(state, lambda link: self._sitting(link, id, progress))
                self.changed(host)  # whoever had the lock before may have changed it
                try:
                    yield
                finally:
                    session, state.session = state.session, None
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

    def restart(self, host: str, id: str, begin: Callable[[Session], None], progress: Progress) -> None:
        """Let *begin* restart *host*, whose lock the caller holds for *id*; return when it is back, and locked again.

        Whoever asks for the host meanwhile waits for it, rather than take it for unreachable. The lock ends with the
        kernel that kept it: somebody else may have had it in between.

        Raises:
            NotDone: it did not come back in time; what follows is not begun.
            HostUnreachable: there was no connection to begin with.
            HostKeyRefused: another key answers.
            HostBusy: somebody else took its lock, and keeps it.
            Interrupted: cancelled while waiting for it.
        """
        state, before = self._state(self._endpoint(host)), self.session(host)
        with state.connecting:
            boot_id = _boot_id(before.connection)
            # given up only now: until the kernel ends, nobody else is to begin anything
            with contextlib.suppress(ConnectionLost):  # it was faster than its answer, or never heard of it
                begin(before)
            try:
                state.connection = self._started_anew(state.endpoint, boot_id, progress)
            except RackwrightError as error:
                state.unreachable = error
                raise
            finally:
                before.connection.close()
        before.close()
        state.session = self._sitting(self._connected(state), id, progress)
        self.changed(host)

    def _started_anew(self, endpoint: Endpoint, boot_id: str, progress: Progress) -> Connection:
        """Return a connection to the next start of a host whose last one was *boot_id*."""
        began = time.monotonic()
        while True:
            try:
                connection = self._connect(endpoint)
                if _boot_id(connection) != boot_id:
                    return connection
                connection.close()
                reason = "it still runs as before"
            except HostUnreachable as error:
                reason = error.got
            if (seconds := time.monotonic() - began) > RESTART_SECONDS:
                got = f"it is not back after {seconds:.0f} s: {reason}"
                raise HostUnreachable(endpoint.host, got, "a restart comes to its end", "Look at its console")
            progress(f"waiting for {seconds:.0f} s for it to come back: {reason}")
            if self._cancelled.wait(RETRY_SECONDS):
                raise Interrupted

    @contextlib.contextmanager
    def _looking(self, host: str) -> Iterator[None]:
        with self._guard:
            self._looked_at.add(host)
        try:
            yield
        finally:
            with self._guard:
                self._looked_at.discard(host)

    def _sitting(self, connection: Connection, id: str, progress: Progress) -> Session:
        return Session(connection, id, progress, self._cancelled.is_set)

    @contextlib.contextmanager
    def _alone(self, state: _State, progress: Progress) -> Iterator[None]:
        if not state.changing.acquire(blocking=False):
            progress("waiting for another change of this host to end")
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
        return self._look(connection, probe.stdin(self._salt))

    def _look(self, connection: Connection, stdin: bytes) -> Facts:
        """Run the probe with *stdin*; whose login only looks has the whole one there, and no other."""
        looks = connection.login.is_read_only
        argv = (program.PATH,) if looks else probe.command()
        with self._slots:
            stdin = program.stdin(self._salt) if looks else stdin
            result = connection.run(argv, stdin, PROBE_SECONDS)
        if result.status:
            raise connection.useless(argv, result)
        return probe.parse(result.stdout, connection.endpoint.host)

    def _again_if_dropped(self, state: _State, work: Callable[[Connection], T]) -> T:
        """Do *work*, which changes nothing on the host: once more, over a new connection, where the old one is dead."""
        try:
            return work(self._connected(state))
        except ConnectionLost:
            time.sleep(random.uniform(0, JITTER_SECONDS))
            return work(self._connected(state))


def _texts(connection: Connection, paths: Sequence[str]) -> dict[str, str | None]:
    argv = ("python3", "-I", "-S", "-X", "utf8", "-c", _TEXTS, "texts")
    result = connection.run(argv, json.dumps([*paths]).encode())
    if result.status:
        raise connection.useless(argv, result)
    found: dict[str, str | None] = json.loads(result.stdout)
    return found


def _boot_id(connection: Connection) -> str:
    found = _texts(connection, [BOOT_ID])[BOOT_ID]
    if found is None:
        fix = f"Look at {BOOT_ID} there"
        raise HostUnreachable(connection.endpoint.host, "it does not say which start this is", "a kernel does", fix)
    return found
