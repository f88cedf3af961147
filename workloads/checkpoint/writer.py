"""Control of the background process from the training process: start, requests and replies."""

import json
import os
import select
import subprocess
import sys
import time
from dataclasses import asdict
from typing import Any

from workloads.checkpoint.persist import WriteRequest, WriterSettings
from workloads.process_variables import python_path

_START = "import sys; from workloads.checkpoint.persist import main; main(sys.argv[1])"


class Writer:
    """A process of `persist`, started with the first request and again if it has died."""

    def __init__(self, settings: WriterSettings, lock: int) -> None:
        """
        Args:
            lock: Descriptor of a lock that both processes hold until they end.
        """
        self._settings, self._lock = settings, lock
        self._process: subprocess.Popen[bytes] | None = None
        self._received = b""

    def submit(self, request: WriteRequest) -> None:
        """Send the request to write one snapshot.

        Raises:
            OSError: The process cannot be started.
        """
        line = json.dumps(asdict(request)).encode() + b"\n"
        if self._process is not None:
            try:
                return self._write(line)
            except BrokenPipeError:
                self.close()
        self._process, self._received = self._start(), b""
        return self._write(line)

    def _start(self) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [sys.executable, "-P", "-c", _START, json.dumps(asdict(self._settings))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,
            env={**os.environ, "PYTHONPATH": python_path()},
            pass_fds=(self._settings.memory, self._lock),
        )

    def _write(self, line: bytes) -> None:
        assert self._process and self._process.stdin
        view = memoryview(line)
        while view:
            view = view[self._process.stdin.write(view) :]

    def wait_for_reply(self, timeout_seconds: float | None) -> dict[str, Any] | None:
        """Return the reply to the request; None if it does not arrive within *timeout_seconds*.

        If the process has died, return a failure.
        """
        assert self._process and self._process.stdout
        deadline = None if timeout_seconds is None else time.monotonic() + timeout_seconds
        while b"\n" not in self._received:
            remaining = None if deadline is None else max(0.0, deadline - time.monotonic())
            if not select.select([self._process.stdout], [], [], remaining)[0]:
                return None
            chunk = self._process.stdout.read(65536)
            if not chunk:
                return {"failure": f"the background process ended with {self._process.wait()}"}
            self._received += chunk
        line, _, self._received = self._received.partition(b"\n")
        wait_for_reply: dict[str, Any] = json.loads(line)
        return wait_for_reply

    def close(self) -> None:
        """Close the process's input, and wait until it has finished its requests and ended."""
        if self._process is None:
            return
        process, self._process = self._process, None
        process.communicate()
