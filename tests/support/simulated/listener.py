"""Listens for all hosts of a rack and gives each connection an sshd of that host; so an idle host costs nothing.

Orders are lines of JSON on stdin, each answered by one on stdout; it ends with stdin.
"""

import json
import os
import resource
import selectors
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

SSHD = shutil.which("sshd", path=f"{os.environ['PATH']}:/usr/sbin")  # it starts itself anew by this path


class Listener:
    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()
        self._sockets: dict[str, socket.socket] = {}
        self._servers: dict[str, list[subprocess.Popen[bytes]]] = {}

    def serve(self) -> None:
        self._selector.register(sys.stdin, selectors.EVENT_READ)
        while True:
            for ready, _ in self._selector.select():
                if isinstance(ready.fileobj, socket.socket):
                    self._accept(ready.data, ready.fileobj)
                elif order := sys.stdin.readline():
                    print(json.dumps(self._obey(**json.loads(order))), flush=True)
                else:
                    for directory in list(self._sockets):
                        self._off(directory)
                    return

    def _accept(self, directory: str, listening: socket.socket) -> None:
        connection, _ = listening.accept()
        with connection, Path(directory, "sshd.log").open("ab") as log:
            server = subprocess.Popen(
                [str(SSHD), "-i", "-e", "-f", f"{directory}/sshd_config"],
                stdin=connection.fileno(),
                stdout=connection.fileno(),
                stderr=log,
                start_new_session=True,
            )
        self._servers[directory] = [old for old in self._servers[directory] if old.poll() is None] + [server]

    def _obey(self, on: Any = None, off: str = "", cpu: bool = False) -> Any:
        if on:
            return self._on(*on)
        if off:
            return self._off(off)
        for servers in self._servers.values():
            for server in servers:
                server.wait()
        return sum(getattr(resource.getrusage(resource.RUSAGE_CHILDREN), kind) for kind in ("ru_utime", "ru_stime"))

    def _on(self, directory: str, address: str, port: int) -> int:
        listening = socket.create_server((address, port), backlog=128)
        self._selector.register(listening, selectors.EVENT_READ, directory)
        self._sockets[directory] = listening
        self._servers.setdefault(directory, [])
        own_port: int = listening.getsockname()[1]
        return own_port

    def _off(self, directory: str) -> None:
        listening = self._sockets.pop(directory)
        self._selector.unregister(listening)
        listening.close()
        for server in self._servers.pop(directory):
            if server.poll() is None:
                os.killpg(server.pid, signal.SIGKILL)
                server.wait()


if __name__ == "__main__":
    Listener().serve()
