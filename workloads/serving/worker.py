"""A worker of a replica over several hosts: its part of vLLM, which starts and ends with the leader's.

Clients ask the leader alone. A worker answers on the Unix socket for its own host, that it is ready to take part.
"""

import json
import signal
import socketserver
import threading
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from types import FrameType
from typing import ClassVar

from workloads.serving import model as model_directory
from workloads.serving.host_socket import bind_host_socket
from workloads.serving.middleware import log_event
from workloads.serving.replica import fingerprint, follow
from workloads.serving.runtimes.vllm import start_worker
from workloads.serving.settings import ServingSettings


def serve_worker(directory: Path, settings: ServingSettings) -> None:
    """Take part in serving the model in *directory* until SIGTERM or SIGINT.

    Raises:
        UserError: the model cannot be served with these settings.
    """
    assert settings.vllm.replica is not None
    model = model_directory.read(directory)
    model_directory.verify(directory, model)
    stopped = threading.Event()

    def stop(number: int, frame: FrameType | None) -> None:
        stopped.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    with bind_host_socket(settings) as host_socket:
        if host_socket is not None:
            server = _HostServer(model.version)
            server.socket = host_socket
            server.server_activate()
            threading.Thread(target=server.serve_forever, name="host socket", daemon=True).start()
        log_event("started", model=model.name, version=model.version, rank=settings.vllm.replica.rank)
        follow(
            settings.vllm.replica,
            fingerprint(model.version, settings),
            lambda: start_worker(directory, settings),
            stopped,
            lambda event: log_event("replica", reason=event),
        )
    log_event("stopped")


class _HostServer(socketserver.ThreadingMixIn, socketserver.TCPServer):
    """Answers this host's own questions, on a bound Unix socket."""

    daemon_threads = True

    def __init__(self, version: str) -> None:
        super().__init__(("", 0), _Handler, bind_and_activate=False)
        self.socket.close()
        self.version = version

    def get_request(self):  # type: ignore[no-untyped-def]
        connection, _ = self.socket.accept()
        return connection, ("host", 0)


class _Handler(BaseHTTPRequestHandler):
    answers: ClassVar = {"/ready", "/v2/health/ready", "/v2/health/live", "/health"}

    def do_GET(self) -> None:
        assert isinstance(self.server, _HostServer)
        found = self.path in self.answers
        content = json.dumps({"ready": True, "version": self.server.version} if found else {"error": "a worker"})
        self.send_response(200 if found else 404)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content.encode())

    def log_message(self, format: str, *args: object) -> None:
        """Log nothing: only the own host asks."""
