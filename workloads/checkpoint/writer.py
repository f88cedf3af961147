"""The training process's end of the process that writes: start it, give it orders, hear how they went."""

import json
import os
import select
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from workloads.checkpoint.persist import Order, Settings

_ROOT = Path(__file__).parents[2]
"""Where the package stands: the process has to find it, however this one did."""
_START = "import sys; from workloads.checkpoint.persist import main; main(sys.argv[1])"


class Writer:
    """A process of `persist`, started with the first order and started again where it has died."""

    def __init__(self, settings: Settings, lock: int) -> None:
        """
        Args:
            lock: Descriptor of a lock that is held until both processes have ended.
        """
        self._settings, self._lock = settings, lock
        self._process: subprocess.Popen[bytes] | None = None
        self._said = b""

    def order(self, order: Order) -> None:
        """Hand over one snapshot.

        Raises:
            OSError: no process can be started.
        """
        line = json.dumps(asdict(order)).encode() + b"\n"
        if self._process is not None:
            try:
                return self._write(line)
            except BrokenPipeError:
                self.close()
        self._process, self._said = self._start(), b""
        return self._write(line)

    def _start(self) -> subprocess.Popen[bytes]:
        paths = [str(_ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
        return subprocess.Popen(
            [sys.executable, "-c", _START, json.dumps(asdict(self._settings))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
            pass_fds=(self._settings.memory, self._lock),
        )

    def _write(self, line: bytes) -> None:
        assert self._process and self._process.stdin
        view = memoryview(line)
        while view:
            view = view[self._process.stdin.write(view) :]

    def answer(self, timeout_seconds: float | None) -> dict[str, Any] | None:
        """Return the answer to the order; None where it has not come within *timeout_seconds*.

        A process that has died has answered: with a failure.
        """
        assert self._process and self._process.stdout
        deadline = None if timeout_seconds is None else time.monotonic() + timeout_seconds
        while b"\n" not in self._said:
            left = None if deadline is None else max(0.0, deadline - time.monotonic())
            if not select.select([self._process.stdout], [], [], left)[0]:
                return None
            said = self._process.stdout.read(65536)
            if not said:
                return {"failure": f"the process that writes it ended with {self._process.wait()}"}
            self._said += said
        line, _, self._said = self._said.partition(b"\n")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def close(self) -> None:
        """Let it finish what it has been told, and return when it has ended."""
        if self._process is None:
            return
        process, self._process = self._process, None
        process.communicate()
