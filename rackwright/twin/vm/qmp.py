"""A monitor connection to one QEMU process.

The qemu.qmp package implements the same protocol with asyncio, which the threads that start several machines at once
would have to drive. This module only needs one request, one answer, and one event to wait for.
"""

import json
import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

from rackwright.errors import Diagnostic, StepFailed

Message = dict[str, Any]


class Monitor:
    """A client of the monitor. QEMU serves one client at a time; a second one waits until the first disconnects."""

    def __init__(self, connection: socket.socket, lines: TextIO, where: str) -> None:
        self._connection, self._lines, self._where = connection, lines, where
        self._events: list[Message] = []
        self._read()  # the greeting
        self.execute("qmp_capabilities")

    def execute(self, command: str, arguments: Mapping[str, Any] | None = None) -> Any:
        """Return QEMU's answer to *command*.

        Raises:
            StepFailed: QEMU refuses the command.
        """
        self._connection.sendall(json.dumps({"execute": command, "arguments": dict(arguments or {})}).encode())
        while "return" not in (answer := self._read()):
            if "error" in answer:
                raise self._monitor_error(f"{command} was refused: {answer['error']['desc']}")
            self._events.append(answer)
        return answer["return"]

    def wait_for(self, event: str, seconds: float, **data: str) -> None:
        """Return once *event* has come with *data* in it. An event that came during a command counts.

        Raises:
            StepFailed: The event did not come within *seconds*.
        """
        deadline = time.monotonic() + seconds
        while True:
            for message in self._events:
                if message["event"] == event and data.items() <= message.get("data", {}).items():
                    return
            self._connection.settimeout(max(0.01, deadline - time.monotonic()))
            self._events.append(self._read(f"no {event} within {seconds:.0f} s"))

    def _read(self, timeout_message: str = "QEMU does not answer") -> Message:
        try:
            line = self._lines.readline()
        except TimeoutError:
            raise self._monitor_error(timeout_message) from None
        except ConnectionError:
            line = ""
        if not line:
            raise self._monitor_error("QEMU ended before it answered")
        message: Message = json.loads(line)
        return message

    def _monitor_error(self, problem: str) -> StepFailed:
        help = "Read the output of `rackwright twin status` and the machine's console"
        return StepFailed(Diagnostic(self._where, problem, help=help))


@contextmanager
def monitor(path: Path, where: str, timeout: float = 30.0) -> Iterator[Monitor]:
    """Connect to the monitor at *path*. *where* names the machine in errors; *timeout* is in seconds per answer."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(timeout)
        connection.connect(str(path))
        # Closed here, too: an open file keeps the socket open, and QEMU serves no other client.
        with connection.makefile("r", encoding="utf-8") as lines:
            yield Monitor(connection, lines, where)
