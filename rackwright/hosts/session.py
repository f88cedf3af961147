"""Hold the lease of one host and run steps under it, one after another."""

import base64
import contextlib
import getpass
import hashlib
import json
import os
import socket
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from rackwright.core.contract import Command, Put, Reboot, Remove, Send
from rackwright.errors import Diagnostic, StepFailed
from rackwright.foreign import InvalidData, parse_object
from rackwright.hosts import runner_source
from rackwright.hosts.transport import Connection, end_input
from rackwright.kinds.shared.guard import LEASE_FILE
from rackwright.progress import Progress

DIRECTORY = "/run/rackwright"
"""Directory on the host for the output of the running step."""
PATIENCE_SECONDS = 600.0
"""Seconds to wait for a lease that another process holds."""
SIGN_OF_LIFE_SECONDS = 15.0
SILENCE_SECONDS = 120.0
"""Longest silence of the host in seconds: it may be emulated and under load, and first starts Python."""
POLL_SECONDS = 0.5
CLOSE_SECONDS = 5.0
PART_BYTES = 1 << 20
"""Size of one part of a sent file. The host answers each part, so that no answer takes long."""
EVENT_BYTES = 16 << 20
"""Size limit of an event from a host. Events have a few lines and describe the content of drives."""
Done = Command | Put | Send | Remove | Reboot
"""A step that the runner on the host performs; it only begins a restart."""
KINDS: Mapping[type[Done], str] = {Command: "run", Put: "put", Send: "send", Remove: "remove", Reboot: "reboot"}


class HostBusy(StepFailed):
    """Another change of this host is running."""


class NotDone(Exception):
    """A step did not begin, or failed."""

    def __init__(self, reason: str, output: tuple[str, ...] = ()) -> None:
        super().__init__(reason)
        self.output = output


class WaitInterrupted(Exception):
    """A cancellation ended the wait for a host."""


class Session:
    """The held lease of a host. It ends with this object, its process or the connection, whichever ends first."""

    def __init__(self, connection: Connection, id: str, progress: Progress, interrupted: Callable[[], bool]) -> None:
        """Take the lease for the resource *id*, after its holder and after steps that an earlier run left running.

        Args:
            progress: Called with the reason of each wait.
            interrupted: Returns whether to stop waiting; called twice a second.

        Raises:
            HostBusy: the lease was held for longer than PATIENCE_SECONDS, or a step of another resource runs.
            HostUnreachable: the runner could not be started.
            Interrupted: *interrupted* returned True.
        """
        self.connection, self._interrupted = connection, interrupted
        self._channel = connection.open(runner_source.COMMAND)
        self._channel.settimeout(POLL_SECONDS)
        self._received = b""
        self._sending = threading.Lock()
        self._closed = threading.Event()
        try:
            job = {"id": id, "holder": _signature(id), "patience_seconds": PATIENCE_SECONDS}
            self._send(runner_source.first_line(lock=LEASE_FILE, directory=DIRECTORY, **job))
            threading.Thread(target=self._show_life, daemon=True).start()
            self._await_readiness(progress)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Release the lease and wait until it is free, so that the next caller can take it at once."""
        self._closed.set()
        with contextlib.suppress(OSError, EOFError):  # without a connection the lease is free as well
            end_input(self._channel)
            self._channel.settimeout(CLOSE_SECONDS)
            while self._channel.recv(1 << 16):
                pass
        self._channel.close()

    def perform(self, step: Done, number: int, progress: Progress) -> None:
        """Do *step* and return when it is done.

        Raises:
            NotDone: an expected drive holds something else (then nothing was written), or the step failed.
            ConnectionLost: the connection ended; the step may be running still.
            Interrupted: a cancellation; the step continues on the host.
        """
        if isinstance(step, Send):
            self._send_file(step, number, progress)
            return
        self._request(number=number, step={"kind": KINDS[type(step)], **asdict(step)})
        self._answer(progress)

    def _send_file(self, step: Send, number: int, progress: Progress) -> None:
        try:
            with open(step.source, "rb") as file:  # noqa: PTH123 - steps are plain data, and no paths
                size, sent, digest = os.fstat(file.fileno()).st_size, 0, hashlib.sha256()
                while True:
                    part = file.read(PART_BYTES)
                    digest.update(part)
                    if last := (sent + len(part) >= size or not part):
                        _prove(step, digest.hexdigest())
                    part_of = {"path": step.path, "first": sent == 0, "last": last, "text": step.text}
                    part_of |= {"mode": step.mode, "owner": step.owner}
                    content = base64.b64encode(part).decode()
                    self._request(number=number, step={"kind": KINDS[Send], **part_of, "content": content})
                    self._answer(progress)
                    if last:
                        return
                    sent += len(part)
                    progress(f"{sent / size:.0%} of {size / 1e6:.0f} MB")
        except OSError as error:
            raise NotDone(f"{step.source} cannot be read: {error.strerror}") from None

    def _await_readiness(self, progress: Progress) -> None:
        while True:
            match self._event():
                case {"event": "ready"}:
                    return
                case {"event": "progress", "text": text}:
                    progress(str(text))
                case {"event": "locked", "holder": holder}:
                    raise HostBusy(
                        Diagnostic(
                            self.connection.endpoint.host,
                            f"another run, for {holder}, has held its lease for {PATIENCE_SECONDS:.0f} s",
                            help="Wait for the end of that run, and run the same command again",
                            note="no step was run",
                            id="host-busy",
                        )
                    )
                case {"event": "occupied", "steps": list(steps)}:
                    raise HostBusy(
                        Diagnostic(
                            self.connection.endpoint.host,
                            f"a step of another resource runs on the host ({', '.join(map(str, steps))})",
                            "one step at a time on a host",
                            "Wait until `systemctl list-units 'rackwright-*'` no longer lists it, and run this again",
                            "no step was run",
                            id="host-busy",
                        )
                    )

    def _answer(self, progress: Progress) -> dict[str, Any]:
        while True:
            match self._event():
                case {"event": "progress", "text": text}:
                    progress(str(text))
                case {"event": "failed", "reason": reason, "output": output}:
                    raise NotDone(str(reason), tuple(map(str, output if isinstance(output, list) else [])))
                case answer:
                    return answer

    def _event(self) -> dict[str, Any]:
        began = time.monotonic()
        while b"\n" not in self._received:
            if self._interrupted():
                raise WaitInterrupted
            with contextlib.suppress(TimeoutError):
                if not (chunk := self._channel.recv(1 << 16)):
                    raise self.connection.exit_error(runner_source.COMMAND, self._channel)
                self._received += chunk
                if len(self._received) > EVENT_BYTES:
                    raise self.connection.connection_lost(
                        f"it sent more than {EVENT_BYTES >> 20} MiB that are no event"
                    )
            if time.monotonic() - began > SILENCE_SECONDS:
                raise self.connection.connection_lost(f"no word for {SILENCE_SECONDS:.0f} s")
        line, _, self._received = self._received.partition(b"\n")
        try:
            return parse_object(line, EVENT_BYTES)
        except InvalidData as error:
            raise self.connection.connection_lost(f"it sent a line that is no event: {error}") from None

    def _request(self, **request: Any) -> None:
        self._send(json.dumps(request).encode() + b"\n")

    def _send(self, data: bytes) -> None:
        with self._sending:
            while data:
                try:
                    data = data[self._channel.send(data) :]
                except TimeoutError:
                    continue  # the channel's timeout is for reading
                except (OSError, EOFError):  # paramiko raises the latter when the host has closed the connection
                    return  # the channel is closed, and the next read returns the reason

    def _show_life(self) -> None:
        while not self._closed.wait(SIGN_OF_LIFE_SECONDS):
            self._send(b"\n")


def _prove(step: Send, sha256: str) -> None:
    if sha256 != step.sha256:
        reason = f"{step.source} is not what was declared: its sha256 is {sha256[:12]}…, not {step.sha256[:12]}…"
        raise NotDone(f"{reason}; nothing was put in its place")


def _signature(id: str) -> str:
    """Return the description of the holder for waiting processes: resource, user, process and time."""
    since = datetime.now(UTC).isoformat(timespec="seconds")
    return f"{id} by {getpass.getuser()}@{socket.gethostname()}, pid {os.getpid()}, since {since}"
