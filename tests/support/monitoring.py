"""The roles of monitoring on this computer: their files below a directory, and their programs as processes."""

import json
import os
import re
import shlex
import socket
import socketserver
import ssl
import subprocess
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.client import HTTPSConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from rackwright.core.repository import Repository
from rackwright.kinds.role.entries.files import FileEntry
from rackwright.kinds.role.promise import promises
from rackwright.kinds.role.spec import AboutFleet, AboutHost, RoleSpec
from tests.support.debian_programs import debian_file, debian_program
from tests.support.expect import eventually
from tests.support.our_roles import ROOT

KEY = {"secret": "monitoring_key"}
SECRETS = {"monitoring_key": "k" * 32, "other_key": "o" * 32, "alerts_url": "http://127.0.0.1:9/"}
ETC = "/etc/rackwright"
MODULE = "/usr/lib/nginx/modules/ngx_stream_module.so"


def spec(role: str, **variables: Any) -> RoleSpec:
    """Return the spec of *role* on the host gpu-01, with the key of the tests."""
    return RoleSpec(
        host="gpu-01",
        role=role,
        identity={"serial": "S1"},
        about=AboutHost(name="gpu-01", os="debian-12", profile="virtual"),
        fleet=AboutFleet(name="lab"),
        variables={"key": KEY, **variables},
    )


def files(role: str, secrets: Mapping[str, str] = SECRETS, **variables: Any) -> dict[str, FileEntry]:
    """Return the files of *role* by path."""
    made = promises(spec(role, **variables), Repository.load(ROOT, b"salt", secrets))
    return {file.file: file for file in made.files}


def write(directory: Path, made: Mapping[str, FileEntry]) -> None:
    """Write the files below *directory*, in whose place they name each other."""
    for path, file in made.items():
        target = directory / path[1:]
        target.parent.mkdir(parents=True, exist_ok=True)
        for place in (ETC, "/run/rackwright-metrics-proxy", "/run/rackwright-quarantine-", "/var/lib/rackwright-"):
            content = str(file.content).replace(place, f"{directory}{place}")
            file = file.model_copy(update={"content": content})
        if MODULE in str(file.content):
            module = str(debian_file(MODULE, "libnginx-mod-stream"))
            file = file.model_copy(update={"content": str(file.content).replace(MODULE, module)})
        target.write_text(str(file.content))


def arguments(directory: Path, unit: str) -> list[str]:
    """Return the arguments of the program of *unit*, below *directory*."""
    text = (directory / "etc/systemd/system" / unit).read_text()
    [line] = re.findall(r"(?m)^ExecStart=\S+ (.*)$", text)
    return str(line).split()


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
    return port


@contextmanager
def running(program: str, package: str, *argv: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run *program* of a Debian *package* until the end of the context."""
    path = debian_program(program, package)
    data = path.parents[1] / "share/prometheus"
    command = [str(path), *argv]
    if path.parts[1] != "usr" and (data / "alertmanager").exists():
        # Debian's Alertmanager reads its own template by a path that the build fixed
        place = "mount -t tmpfs none /usr/share && mkdir /usr/share/prometheus && mount --bind {} /usr/share/prometheus"
        own_root = [] if os.geteuid() == 0 else ["--map-root-user"]
        shell = f"{place.format(shlex.quote(str(data)))} && exec {shlex.join(command)}"
        command = ["unshare", *own_root, "--mount", "sh", "-c", shell]
    process = subprocess.Popen(command)
    try:
        yield process
    finally:
        process.terminate()
        process.wait()


@contextmanager
def activated(path: str, *argv: str) -> Iterator[None]:
    """Run a program for each connection to the Unix socket *path*, as systemd does, until the end of the context."""

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            subprocess.run(argv, stdin=self.request, stdout=self.request, check=True)

    with socketserver.ThreadingUnixStreamServer(path, Handler) as server:
        Path(path).chmod(0o666)
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        try:
            yield
        finally:
            server.shutdown()


def client(directory: Path, role: str = "prometheus", name: str = "client") -> ssl.SSLContext:
    """Return the context of a client with the certificate *name* of *role*."""
    place = directory / f"etc/rackwright/{role}"
    context = ssl.create_default_context(cafile=str(place / "authority.crt"))
    context.load_cert_chain(place / f"{name}.crt", place / f"{name}.key")
    return context


def get(port: int, path: str, context: ssl.SSLContext, method: str = "GET") -> tuple[int, str]:
    """Return status and body of an answer by TLS on loopback."""
    connection = HTTPSConnection("127.0.0.1", port, timeout=60, context=context)
    try:
        connection.request(method, path)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    finally:
        connection.close()


def listens(port: int) -> bool:
    """Return whether a program has *port* of loopback."""
    with socket.socket() as one:
        return one.connect_ex(("127.0.0.1", port)) == 0


class Webhook(ThreadingHTTPServer):
    """A receiver of alerts that keeps all messages."""

    def __init__(self) -> None:
        self.messages: list[dict[str, Any]] = []
        webhook = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                webhook.messages.append({"path": self.path, **json.loads(body)})
                self.send_response(200)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, format: str, *arguments: Any) -> None: ...

        super().__init__(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()

    def alerts(self, name: str, status: str = "firing") -> list[dict[str, Any]]:
        """Return the alerts *name* of all messages that have *status*."""
        sent = [alert for message in self.messages for alert in message["alerts"]]
        return [alert for alert in sent if alert["labels"]["alertname"] == name and alert["status"] == status]

    def end(self) -> None:
        self.shutdown()
        self.server_close()


def wait_for(port: int) -> None:
    """Wait until a program listens on *port*."""
    eventually(lambda: listens(port), f"a program listens on {port}")
