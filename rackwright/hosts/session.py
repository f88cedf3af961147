"""One sitting on one host: its lock, and the steps that are done under it, one after another."""

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
from rackwright.errors import StepFailed
from rackwright.hosts import runner_source
from rackwright.hosts.transport import Connection, end_input
from rackwright.kinds.shared.guard import LEASE_FILE
from rackwright.progress import Progress

DIRECTORY = "/run/rackwright"
"""On the host: for the output of the running step."""
PATIENCE_SECONDS = 600.0
"""How long to wait for a lock that somebody else holds."""
SIGN_OF_LIFE_SECONDS = 15.0
SILENCE_SECONDS = 120.0
"""How long the host may say nothing: it may be emulated and under load, and starts with Python."""
POLL_SECONDS = 0.5
CLOSE_SECONDS = 5.0
PART_BYTES = 1 << 20
EVENT_BYTES = 16 << 20
"""The longest event of a host; they have a few lines, and say what is on drives."""
"""Of a file that is sent: the host answers to each part, so that it never waits for long."""
Done = Command | Put | Send | Remove | Reboot
"""What the host does by itself; of a restart, that it is begun."""
KINDS: Mapping[type[Done], str] = {Command: "run", Put: "put", Send: "send", Remove: "remove", Reboot: "reboot"}


class HostBusy(StepFailed):
    """Somebody else changes this host."""


class NotDone(Exception):
    """A step that was stopped before it began, or failed."""

    def __init__(self, reason: str, output: tuple[str, ...] = ()) -> None:
        super().__init__(reason)
        self.output = output


class Interrupted(Exception):
    """The wait for a host was cut short by a cancellation."""


class Session:
    """The lock of a host, held. It ends with this object, its process, or the connection, whichever is first."""

    def __init__(self, connection: Connection, id: str, progress: Progress, interrupted: Callable[[], bool]) -> None:
        """Take the lock for the resource *id*, waiting for its holder and for steps that an earlier run left behind.

        Args:
            say: Told what is waited for.
            interrupted: Asked twice a second whether to stop waiting.

        Raises:
            HostBusy: the lock was held for longer than PATIENCE_SECONDS, or another resource's step runs.
            HostUnreachable: the runner could not be started.
            Interrupted: *interrupted* said so.
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
        """Give the lock back and wait until it is free, so that the next to ask finds it so."""
        self._closed.set()
        with contextlib.suppress(OSError):  # it is free, too, where the connection is gone
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
            Interrupted: a cancellation; the step runs on, on the host.
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
                    told = {"path": step.path, "first": sent == 0, "last": last, "text": step.text}
                    told |= {"mode": step.mode, "owner": step.owner}
                    content = base64.b64encode(part).decode()
                    self._request(number=number, step={"kind": KINDS[Send], **told, "content": content})
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
                    progress(text)
                case {"event": "locked", "holder": holder}:
                    raise HostBusy(
                        self.connection.endpoint.host,
                        f"its lock is held for {holder}",
                        f"it came free within {PATIENCE_SECONDS:.0f} s",
                        "No step was run; wait for the end of that run, then run the same command again",
                    )
                case {"event": "occupied", "steps": steps}:
                    raise HostBusy(
                        self.connection.endpoint.host,
                        f"a step of another resource runs on it ({', '.join(steps)})",
                        "one step at a time runs on a host",
                        "No step was run; wait for its end (`systemctl list-units 'rackwright-*'`), then run again",
                    )

    def _answer(self, progress: Progress) -> dict[str, Any]:
        while True:
            match self._event():
                case {"event": "progress", "text": text}:
                    progress(text)
                case {"event": "failed", "reason": reason, "output": output}:
                    raise NotDone(reason, tuple(output))
                case answer:
                    return answer

    def _event(self) -> dict[str, Any]:
        began = time.monotonic()
        while b"\n" not in self._received:
            if self._interrupted():
                raise Interrupted
            with contextlib.suppress(TimeoutError):
                if not (chunk := self._channel.recv(1 << 16)):
                    raise self.connection.ended(runner_source.COMMAND, self._channel)
                self._received += chunk
                if len(self._received) > EVENT_BYTES:
                    raise self.connection.lost(f"it sent more than {EVENT_BYTES >> 20} MiB that are no event")
            if time.monotonic() - began > SILENCE_SECONDS:
                raise self.connection.lost(f"no word for {SILENCE_SECONDS:.0f} s")
        line, _, self._received = self._received.partition(b"\n")
        try:
            event = json.loads(line)
        except (ValueError, RecursionError):
            event = None
        if not isinstance(event, dict):
            raise self.connection.lost("it sent a line that is no event")
        return event

    def _request(self, **request: Any) -> None:
        self._send(json.dumps(request).encode() + b"\n")

    def _send(self, data: bytes) -> None:
        with self._sending:
            while data:
                try:
                    data = data[self._channel.send(data) :]
                except TimeoutError:
                    continue  # the channel's timeout is for reading
                except OSError:
                    return  # it is closed, and the next read tells why

    def _show_life(self) -> None:
        while not self._closed.wait(SIGN_OF_LIFE_SECONDS):
            self._send(b"\n")


def _prove(step: Send, sha256: str) -> None:
    if sha256 != step.sha256:
        said = f"{step.source} is not what was declared: its sha256 is {sha256[:12]}…, not {step.sha256[:12]}…"
        raise NotDone(f"{said}; nothing was put in its place")


def _signature(id: str) -> str:
    """Return what others read while they wait: for what, who, which process, since when."""
    since = datetime.now(UTC).isoformat(timespec="seconds")
    return f"{id} by {getpass.getuser()}@{socket.gethostname()}, pid {os.getpid()}, since {since}"
