"""The supervisor, parent process of a twin's machines: `python -m rackwright.twin.supervisor DIRECTORY STARTING`.

The supervisor starts, lists and kills processes at request; it restarts nothing by itself. If any signal kills the
supervisor, the kernel kills its children. A connection carries one request and one answer, each a line of JSON:

    {"do": "run", "name": "host-1", "argv": [...], "log": "PATH", "note": "..."}   -> {"pid": 1234}
    {"do": "list"}                -> {"host-1": {"pid": 1234, "status": null, "note": "..."}}
    {"do": "signal", "name": "host-1", "number": 15}   -> {}
    {"do": "kill", "name": "host-1"}   -> {}      once it is gone
    {"do": "quit"}                -> {}      once all are gone
"""

import contextlib
import ctypes
import fcntl
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rackwright import terminal
from rackwright.twin.layout import Layout

_PR_SET_PDEATHSIG = 1
_ENDING_SECONDS = 10
"""The longest wait for the end of an earlier supervisor."""
_libc = ctypes.CDLL(None, use_errno=True)


class Supervisor:
    """The children by name. Only one thread may use it, since a child dies with the thread that started it."""

    def __init__(self) -> None:
        self._children: dict[str, subprocess.Popen[bytes]] = {}
        self._notes: dict[str, str] = {}

    def run(self, name: str, argv: list[str], log: str, note: str) -> dict[str, int]:
        if name in self._children and self._children[name].poll() is None:
            raise ValueError(f"{name} runs already")
        parent = os.getpid()
        with Path(log).open("ab") as output:
            child = subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                preexec_fn=lambda: _die_with(parent),  # noqa: PLW1509 - this process has one thread
            )
        self._children[name], self._notes[name] = child, note
        return {"pid": child.pid}

    def list(self) -> dict[str, dict[str, Any]]:
        return {
            name: {"pid": child.pid, "status": child.poll(), "note": self._notes[name]}
            for name, child in self._children.items()
        }

    def signal(self, name: str, number: int) -> dict[str, int]:
        if child := self._children.get(name):
            child.send_signal(number)  # no other process has this id: an ended child keeps its id until it is polled
        return {}

    def kill(self, name: str) -> dict[str, int]:
        if child := self._children.get(name):
            child.kill()
            child.wait()
        return {}

    def quit(self) -> dict[str, int]:
        for name in self._children:
            self.kill(name)
        return {}


def serve(supervisor: Supervisor, listener: socket.socket) -> None:
    """Answer requests until one is `quit`. A wrong request gets `{"error": ...}` and affects no other request."""
    calls: dict[str, Callable[..., Any]] = {
        "run": supervisor.run,
        "list": supervisor.list,
        "signal": supervisor.signal,
        "kill": supervisor.kill,
        "quit": supervisor.quit,
    }
    do = None
    while do != "quit":
        connection, _ = listener.accept()
        with connection:
            connection.settimeout(10)  # a silent client must not block the others
            try:
                request = json.loads(connection.makefile().readline())
                do = request.pop("do")
                answer = calls[do](**request)
            except (OSError, ValueError, TypeError, KeyError) as error:
                answer = {"error": str(error)}
            with contextlib.suppress(OSError):  # the client may be gone
                connection.sendall(json.dumps(answer).encode() + b"\n")


def _lock(file: int) -> bool:
    """Return whether this process has the lock, for which it waits as long as an earlier supervisor takes to end."""
    deadline = time.monotonic() + _ENDING_SECONDS
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                return False
            time.sleep(0.05)
        else:
            return True


def main(directory: Path, starting: int) -> int:
    """Serve the twin in *directory*; *starting* is an open file, closed as soon as the supervisor accepts requests."""
    layout = Layout(directory)
    lock = os.open(layout.supervisor_lock, os.O_RDWR | os.O_CREAT, 0o600)
    if not _lock(lock):
        terminal.notify(f"{directory}: a supervisor runs already")
        return 1
    os.ftruncate(lock, 0)
    os.write(lock, f"{os.getpid()}\n".encode())

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    layout.runtime.mkdir(mode=0o700, exist_ok=True)
    layout.supervisor_socket.unlink(missing_ok=True)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(layout.supervisor_socket))
        listener.listen()
        os.close(starting)
        serve(Supervisor(), listener)
    layout.supervisor_socket.unlink()
    return 0


def _die_with(parent: int) -> None:
    """Ask the kernel to kill this process when *parent* dies; *parent* may have died before this call."""
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), int(sys.argv[2])))
