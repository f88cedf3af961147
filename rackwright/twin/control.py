"""The client's side of the supervisor: start it, ask it, end it."""

import fcntl
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import rackwright
from rackwright.errors import StepFailed
from rackwright.twin.layout import Layout


@dataclass(frozen=True, slots=True)
class Child:
    """A process under supervision."""

    pid: int
    status: int | None
    """Its exit status, negative for a signal; None while it runs."""
    note: str
    """What it was started with, in the words of whoever started it."""


class Control:
    """Requests to the supervisor of one twin."""

    def __init__(self, layout: Layout, patience_seconds: float = 30) -> None:
        self._layout, self._patience_seconds = layout, patience_seconds

    def ensure(self, starting: IO[bytes]) -> None:
        """Start the supervisor unless it runs.

        Args:
            starting: A lock that the new supervisor also holds until it hears requests, so that
                whoever takes the lock next, even after a sudden end of this command, finds it.
        """
        if connection := self._connect():
            connection.close()
            return
        package_root = str(Path(rackwright.__file__).parents[1])
        with self._layout.supervisor_log.open("ab") as log:
            process = subprocess.Popen(
                [
                    sys.executable,
                    "-P",
                    "-m",
                    "rackwright.twin.supervisor",
                    str(self._layout.directory),
                    str(starting.fileno()),
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                pass_fds=[starting.fileno()],
                env=os.environ | {"PYTHONPATH": package_root},
            )
        while (connection := self._connect()) is None:
            if process.poll() is not None:
                raise self._failed(f"it ended with status {process.returncode}")
            time.sleep(0.02)
        connection.close()

    def run(self, name: str, argv: list[str], log: Path, note: str = "") -> int:
        """Start *argv*, saying into *log*, and return its process id."""
        return int(self._ask({"do": "run", "name": name, "argv": argv, "log": str(log), "note": note})["pid"])

    def children(self) -> dict[str, Child]:
        """Return what was started, by name; empty when no supervisor runs."""
        connection = self._connect()
        if connection is None:
            return {}
        return {name: Child(**told) for name, told in self._ask({"do": "list"}, connection).items()}

    def signal(self, name: str, number: int) -> None:
        """Send a child a signal, if it runs."""
        if connection := self._connect():
            self._ask({"do": "signal", "name": name, "number": number}, connection)

    def kill(self, name: str) -> None:
        """End a child at once, and return when it is gone."""
        if connection := self._connect():
            self._ask({"do": "kill", "name": name}, connection)

    def quit(self) -> None:
        """End all children and the supervisor, by force if it does not listen, and remove its sockets."""
        if connection := self._connect():
            try:
                self._ask({"do": "quit"}, connection)
            except StepFailed:
                self._kill_supervisor()
        shutil.rmtree(self._layout.runtime, ignore_errors=True)

    def _connect(self) -> socket.socket | None:
        connection = socket.socket(socket.AF_UNIX)
        connection.settimeout(self._patience_seconds)
        try:
            connection.connect(str(self._layout.supervisor_socket))
        except (FileNotFoundError, ConnectionRefusedError):
            connection.close()
            return None
        return connection

    def _ask(self, request: dict[str, Any], connection: socket.socket | None = None) -> dict[str, Any]:
        connection = connection or self._connect()
        if connection is None:
            raise self._failed("it does not run")
        try:
            with connection, connection.makefile("rw", encoding="utf-8") as stream:
                stream.write(json.dumps(request) + "\n")
                stream.flush()
                answer: dict[str, Any] = json.loads(stream.readline() or '{"error": "it ended while it was asked"}')
        except OSError as error:
            raise self._failed(f"{request['do']}: {error}") from error
        if set(answer) == {"error"}:
            raise self._failed(f"{request['do']}: {answer['error']}")
        return answer

    def _kill_supervisor(self) -> None:
        with self._layout.supervisor_lock.open() as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:  # held, so the process id in it is the supervisor's and nobody else's
                os.kill(int(lock.read()), signal.SIGKILL)

    def _failed(self, got: str) -> StepFailed:
        return StepFailed(
            "twin's supervisor",
            got,
            "it runs the twin's machines",
            f"Read {self._layout.supervisor_log}, then start the twin",
        )
