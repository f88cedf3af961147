"""The client of the supervisor, which starts it, sends requests and ends it."""

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
from rackwright.errors import Diagnostic, StepFailed
from rackwright.twin.layout import Layout


@dataclass(frozen=True, slots=True)
class Child:
    """A process under supervision."""

    pid: int
    status: int | None
    """Exit status of the process, negative for a signal; None while the process runs."""
    note: str
    """Text that the client gave when it started the process."""


class Control:
    """Requests to the supervisor of one twin."""

    def __init__(self, layout: Layout, timeout_seconds: float = 30) -> None:
        self._layout, self._timeout_seconds = layout, timeout_seconds

    def ensure(self, starting: IO[bytes]) -> None:
        """Start the supervisor unless it runs.

        Args:
            starting: A lock that the new supervisor also holds until it accepts requests. The next command
                that takes the lock then finds the supervisor, even if this command ended suddenly.
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
                raise self._supervisor_error(f"the supervisor ended with status {process.returncode}")
            time.sleep(0.02)
        connection.close()

    def run(self, name: str, argv: list[str], log: Path, note: str = "") -> int:
        """Start *argv* with its output in *log*, and return its process id."""
        return int(self._request({"do": "run", "name": name, "argv": argv, "log": str(log), "note": note})["pid"])

    def children(self) -> dict[str, Child]:
        """Return the processes that were started, by name; empty if no supervisor runs."""
        connection = self._connect()
        if connection is None:
            return {}
        return {name: Child(**fields) for name, fields in self._request({"do": "list"}, connection).items()}

    def signal(self, name: str, number: int) -> None:
        """Send a signal to a child, if it runs."""
        if connection := self._connect():
            self._request({"do": "signal", "name": name, "number": number}, connection)

    def kill(self, name: str) -> None:
        """Kill a child, and return when it is gone."""
        if connection := self._connect():
            self._request({"do": "kill", "name": name}, connection)

    def quit(self) -> None:
        """End all children and the supervisor, and remove the sockets. A supervisor that does not answer is killed."""
        if connection := self._connect():
            try:
                self._request({"do": "quit"}, connection)
            except StepFailed:
                self._kill_supervisor()
        shutil.rmtree(self._layout.runtime, ignore_errors=True)

    def _connect(self) -> socket.socket | None:
        connection = socket.socket(socket.AF_UNIX)
        connection.settimeout(self._timeout_seconds)
        try:
            connection.connect(str(self._layout.supervisor_socket))
        except (FileNotFoundError, ConnectionRefusedError):
            connection.close()
            return None
        return connection

    def _request(self, request: dict[str, Any], connection: socket.socket | None = None) -> dict[str, Any]:
        connection = connection or self._connect()
        if connection is None:
            raise self._supervisor_error("the supervisor does not run")
        try:
            with connection, connection.makefile("rw", encoding="utf-8") as stream:
                stream.write(json.dumps(request) + "\n")
                stream.flush()
                answer: dict[str, Any] = json.loads(
                    stream.readline() or '{"error": "the supervisor ended before it answered"}'
                )
        except OSError as error:
            raise self._supervisor_error(f"{request['do']}: {error}") from error
        if set(answer) == {"error"}:
            raise self._supervisor_error(f"{request['do']}: {answer['error']}")
        return answer

    def _kill_supervisor(self) -> None:
        with self._layout.supervisor_lock.open() as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:  # held, so the process id in it is that of the supervisor
                os.kill(int(lock.read()), signal.SIGKILL)

    def _supervisor_error(self, problem: str) -> StepFailed:
        help = f"Read {self._layout.supervisor_log}, then start the twin"
        return StepFailed(Diagnostic("twin's supervisor", problem, help=help))
