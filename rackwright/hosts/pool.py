"""Hold one connection, one shared probe and one lease for each host of a process."""

import contextlib
import json
import random
import secrets
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar

from pydantic import TypeAdapter

from rackwright.errors import Diagnostic, HostUnreachable, StepFailed, UserError
from rackwright.facts import probe, program
from rackwright.facts.clock import with_clock_offset
from rackwright.facts.facts import Facts
from rackwright.foreign import parse_object
from rackwright.hosts.answer import check_answer
from rackwright.hosts.pins import pinned_keys
from rackwright.hosts.recent import RecentFacts
from rackwright.hosts.session import NotDone, Session, WaitInterrupted
from rackwright.hosts.transport import Connection, ConnectionLost
from rackwright.progress import Progress
from rackwright.schema.ssh import Endpoint

PROBE_SECONDS = 180.0
SIMULTANEOUS = 64
JITTER_SECONDS = 1.0
"""Longest random delay before a reconnect: a switch or jump host that restarts drops many connections at once."""
POLL_SECONDS = 0.5
RESTART_SECONDS = 900.0
"""Longest restart of a host: firmware that tests terabytes of memory needs minutes."""
RETRY_SECONDS = 5.0
"""Interval between two attempts to reach a restarting host."""
BOOT_ID = "/proc/sys/kernel/random/boot_id"
TEXTS_BYTES = 64 << 20
"""Maximum size of the texts of files that a host sends at once."""
_TEXTS_FOUND = TypeAdapter(dict[str, str | None])
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
CONNECT, READ = "step 1/2: connect", "step 2/2: read facts"
Watch = Callable[[str, str], None]
"""Gets the name of a host, and the step of its probe."""


def ignore_step(host: str, text: str) -> None:
    """Forget the step of a probe."""


class ChangeCancelled(StepFailed):
    """The operator cancelled the work."""


@dataclass(eq=False, slots=True)
class _State:
    """State of one host in this process."""

    endpoint: Endpoint
    connecting: threading.Lock = field(default_factory=threading.Lock)
    connection: Connection | None = None
    unreachable: UserError | None = None
    """Reason why the host was not reached, stored so that its other resources do not wait for it again."""

    probing: threading.Lock = field(default_factory=threading.Lock)
    facts: Facts | None = None
    changes: int = 0
    """Number of reported changes of the host. Facts of a probe that began before the last one are not stored."""

    changing: threading.Lock = field(default_factory=threading.Lock)
    session: Session | None = None


class Hosts:
    """The hosts of a fleet, each connected on first use. Any thread may call any method."""

    def __init__(
        self,
        endpoints: Mapping[str, Endpoint],
        salt: bytes,
        simultaneous: int = SIMULTANEOUS,
        account_of_files: bool = True,
        watch: Watch = ignore_step,
        recent: RecentFacts | None = None,
    ) -> None:
        """
        Args:
            endpoints: Endpoints by host name, read at each use of a host.
            salt: Key of the digests that probes return.
            simultaneous: Number of hosts to connect to, or to probe, at once.
            account_of_files: Whether probes judge every file of the system, which an audit alone needs. Installed
                probes, which a read-only login runs, always do.
            watch: Called with a host and the step of its probe; with an empty text at the end.
            recent: Facts that another process has just read, and a place for those of this one.
        """
        self._endpoints, self._salt, self._account_of_files = endpoints, salt, account_of_files
        self._watch, self._recent = watch, recent
        self._slots = threading.Semaphore(simultaneous)
        self._states: dict[Endpoint, _State] = {}
        self._looked_at: set[str] = set()
        self._guard = threading.Lock()
        self._cancelled = threading.Event()

    @property
    def is_cancelled(self) -> bool:
        return self._cancelled.is_set()

    def cancel(self) -> None:
        """Begin no further step. Calls that wait for a lease or a step raise ChangeCancelled."""
        self._cancelled.set()

    def close(self) -> None:
        with self._guard:
            states = list(self._states.values())
        for state in states:
            if state.connection:
                state.connection.close()

    def connection(self, host: str) -> Connection:
        """Return the connection to *host*, and reconnect if it was dropped.

        Raises:
            HostUnreachable: the host does not answer, or did not earlier in this process.
            HostKeyRefused: its key is not the pinned one.
        """
        return self._open_connection(self._state(self._endpoint(host)))

    def unreachable(self) -> frozenset[str]:
        """Return the hosts that this process did not reach."""
        with self._guard:
            states = list(self._states.values())
        return frozenset(state.endpoint.host for state in states if state.unreachable) & {*self._endpoints}

    def looked_at(self) -> frozenset[str]:
        """Return the hosts that are being probed now, or connected to for a probe."""
        with self._guard:
            return frozenset(self._looked_at)

    def check_login(self, host: str) -> None:
        """Check the first login of *host* that can change it, over a new connection that is closed afterwards.

        Raises:
            NotDone: this login fails.
        """
        state = self._state(self._endpoint(host))
        endpoint = replace(state.endpoint, logins=state.endpoint.first_change_login)
        via = self._open_connection(self._state(endpoint.jump)) if endpoint.jump else None
        try:
            connection = Connection(endpoint, via)
        except UserError as error:
            raise NotDone(str(error)) from None
        try:
            if connection.run(("true",)).status:
                raise NotDone(f"user {connection.login.user} gets in and can run nothing")
        finally:
            connection.close()

    def facts(self, host: str, fresh: bool = False) -> Facts:
        """Return the facts of *host* from one probe, shared by all callers until the host changes.

        Args:
            fresh: Require a probe that begins after this call.
        """
        state = self._state(self._endpoint(host))
        with state.probing, self._looking(host):
            if state.facts is not None and not fresh:
                return state.facts
            changes = state.changes
            facts = None if fresh or changes or self._recent is None else self._recent.load(host)
            if facts is None:
                facts = self._probe_watched(host, state)
            state.facts = facts if state.changes == changes else None
            return facts

    def gpus(self, host: str) -> Facts:
        """Return the current facts about the GPUs of *host*, with other facts that the same probe reports."""
        return self._retry_if_dropped(
            self._state(self._endpoint(host)), lambda link: self._look(link, probe.stdin_for_gpus())
        )

    def try_again(self) -> None:
        """Forget which hosts were not reached, so that the next call connects to them again."""
        with self._guard:
            states = list(self._states.values())
        for state in states:
            state.unreachable = None

    def texts(self, host: str, paths: Sequence[str]) -> dict[str, str | None]:
        """Return the current texts of files; None for a file that is missing or is not text."""
        return self._retry_if_dropped(self._state(self._endpoint(host)), lambda link: _texts(link, paths))

    def exists(self, host: str, path: str) -> bool:
        """Return whether there is something at *path*, which may be a link to nothing."""
        return self._retry_if_dropped(self._state(self._endpoint(host)), lambda link: _exists(link, path))

    def forget_facts(self, host: str) -> None:
        """Forget the facts of *host*, because it changed or may have changed."""
        state = self._state(self._endpoint(host))
        state.changes += 1
        state.facts = None

    @contextlib.contextmanager
    def lease(self, host: str, id: str, progress: Progress) -> Iterator[None]:
        """Hold the lease of *host* for the resource *id*: no other change of it runs, in this process or another.

        Args:
            progress: Called with the reason of each wait.

        Raises:
            HostBusy: another change of the host takes longer than PATIENCE_SECONDS.
            ChangeCancelled: the work was cancelled during the wait.
        """
        state = self._state(self._endpoint(host))
        try:
            with self._change_slot(state, progress):
                state.session = self._retry_if_dropped(state, lambda link: self._open_session(link, id, progress))
                self.forget_facts(host)  # the previous holder of the lease may have changed the host
                try:
                    yield
                finally:
                    session, state.session = state.session, None
                    session.close()
        except WaitInterrupted:
            raise ChangeCancelled(
                Diagnostic(
                    id, f"cancelled while waiting for {host}", help="Run the same command again", note="no step was run"
                )
            ) from None

    def session(self, host: str) -> Session:
        """Return the session of the lease that the caller holds on *host*."""
        session = self._state(self._endpoint(host)).session
        assert session is not None, f"the lease of {host} is not held"
        return session

    def restart(self, host: str, id: str, begin: Callable[[Session], None], progress: Progress) -> None:
        """Restart *host* with *begin*, and return when it is back and leased again.

        The caller holds the lease for *id*.

        Other calls for the host wait until it is back, and do not report it as unreachable. The lease ends with the
        kernel that holds it, so another process may have held it in between.

        Raises:
            NotDone: the host did not come back in time; later steps do not begin.
            HostUnreachable: the host was not connected before the restart.
            HostKeyRefused: the host has another key.
            HostBusy: another process took the lease and holds it.
            WaitInterrupted: the work was cancelled during the wait.
        """
        state, before = self._state(self._endpoint(host)), self.session(host)
        with state.connecting:
            boot_id = _boot_id(before.connection)
            # the lease lasts until the kernel ends, so that no other change begins before
            with contextlib.suppress(ConnectionLost):  # the host went down before it answered, or never got the request
                begin(before)
            try:
                state.connection = self._await_restart(state.endpoint, boot_id, progress)
            except UserError as error:
                state.unreachable = error
                raise
            finally:
                before.connection.close()
        before.close()
        state.session = self._retry_if_dropped(state, lambda link: self._open_session(link, id, progress))
        self.forget_facts(host)

    def _await_restart(self, endpoint: Endpoint, boot_id: str, progress: Progress) -> Connection:
        """Wait until the host has another boot ID than *boot_id*, and return a connection to it."""
        began = time.monotonic()
        while True:
            try:
                connection = self._connect(endpoint)
                if _boot_id(connection) != boot_id:
                    return connection
                connection.close()
                reason = "the restart has not begun"
            except HostUnreachable as error:
                reason = error.diagnostic.problem
            if (seconds := time.monotonic() - began) > RESTART_SECONDS:
                problem = f"the host did not come back within {seconds:.0f} s of its restart: {reason}"
                raise HostUnreachable(
                    Diagnostic(endpoint.host, problem, help="Look at the host's console", id="host-did-not-return")
                )
            progress(f"waiting for {seconds:.0f} s for it to come back: {reason}")
            if self._cancelled.wait(RETRY_SECONDS):
                raise WaitInterrupted

    @contextlib.contextmanager
    def _looking(self, host: str) -> Iterator[None]:
        with self._guard:
            self._looked_at.add(host)
        try:
            yield
        finally:
            with self._guard:
                self._looked_at.discard(host)

    def _open_session(self, connection: Connection, id: str, progress: Progress) -> Session:
        return Session(connection, id, progress, self._cancelled.is_set)

    @contextlib.contextmanager
    def _change_slot(self, state: _State, progress: Progress) -> Iterator[None]:
        if not state.changing.acquire(blocking=False):
            progress("waiting for another change of this host to end")
            while not state.changing.acquire(timeout=POLL_SECONDS):
                if self.is_cancelled:
                    raise WaitInterrupted
        try:
            yield
        finally:
            state.changing.release()

    def _endpoint(self, host: str) -> Endpoint:
        try:
            return self._endpoints[host]
        except KeyError:
            raise HostUnreachable(
                Diagnostic(
                    host,
                    "the address of the host is unknown",
                    "an address in the fleet, or a running twin",
                    "Declare `address`, or start the twin",
                )
            ) from None

    def _state(self, endpoint: Endpoint) -> _State:
        with self._guard:
            return self._states.setdefault(endpoint, _State(endpoint))

    def _open_connection(self, state: _State) -> Connection:
        with state.connecting:
            if state.unreachable:
                raise state.unreachable.with_traceback(None)
            if not (state.connection and state.connection.alive):
                try:
                    state.connection = self._connect(state.endpoint)
                except UserError as error:
                    state.unreachable = error
                    raise
            return state.connection

    def _connect(self, endpoint: Endpoint) -> Connection:
        if not endpoint.jump:
            with self._slots:
                return Connection(endpoint)
        try:
            via = self._open_connection(self._state(endpoint.jump))
        except UserError as error:
            where = f"{endpoint.host} through {error.diagnostic.where}"
            raise type(error)(replace(error.diagnostic, where=where)) from None
        with self._slots:
            return Connection(endpoint, via)

    def _probe_watched(self, host: str, state: _State) -> Facts:
        self._watch(host, CONNECT)
        try:
            facts = self._retry_if_dropped(state, self._probe)
        finally:
            self._watch(host, "")
        if self._recent is not None:
            self._recent.save(host, facts)
        return facts

    def _probe(self, connection: Connection) -> Facts:
        self._watch(connection.endpoint.host, READ)
        nonce = "" if connection.login.is_read_only else secrets.token_hex(16)
        key_types = [*pinned_keys(connection.endpoint)]
        facts = self._look(connection, probe.stdin(self._salt, nonce, key_types, self._account_of_files))
        check_answer(facts, connection.endpoint, self._endpoints, nonce)
        return facts

    def _look(self, connection: Connection, stdin: bytes) -> Facts:
        """Run the probe with *stdin*. A read-only login can run only the installed probe, which reads all facts."""
        looks = connection.login.is_read_only
        argv = (program.PATH,) if looks else probe.command()
        with self._slots:
            stdin = program.stdin(self._salt) if looks else stdin
            started = time.time()
            result = connection.run(argv, stdin, PROBE_SECONDS)
            ended = time.time()
        if result.status:
            raise connection.command_error(argv, result)
        return with_clock_offset(probe.parse(result.stdout, connection.endpoint.host), started, ended)

    def _retry_if_dropped(self, state: _State, work: Callable[[Connection], T]) -> T:
        """Do the read-only *work*, and repeat it once over a new connection if the connection was lost."""
        try:
            return work(self._open_connection(state))
        except ConnectionLost:
            time.sleep(random.uniform(0, JITTER_SECONDS))
            return work(self._open_connection(state))


def _texts(connection: Connection, paths: Sequence[str]) -> dict[str, str | None]:
    argv = ("python3", "-I", "-S", "-X", "utf8", "-c", _TEXTS, "texts")
    result = connection.run(argv, json.dumps([*paths]).encode())
    if result.status:
        raise connection.command_error(argv, result)
    try:
        return _TEXTS_FOUND.validate_python(parse_object(result.stdout, TEXTS_BYTES))
    except ValueError:
        raise connection.connection_lost("it sent no texts of files") from None


def _exists(connection: Connection, path: str) -> bool:
    argv = ("python3", "-I", "-S", "-X", "utf8", "-c", "import os, sys; print(os.path.lexists(sys.argv[1]))", path)
    result = connection.run(argv)
    if result.status:
        raise connection.command_error(argv, result)
    return result.stdout == b"True\n"


def _boot_id(connection: Connection) -> str:
    found = _texts(connection, [BOOT_ID])[BOOT_ID]
    if found is None:
        problem, help = f"{BOOT_ID} cannot be read, so its restart cannot be observed", "Check the file on the host"
        raise HostUnreachable(Diagnostic(connection.endpoint.host, problem, help=help))
    return found
