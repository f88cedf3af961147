"""An HTTPS server on loopback that answers as an API of Kubernetes, or wrongly."""

import contextlib
import json
import ssl
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from rackwright.endpoints.kubernetes_facts import NODES, OBJECTS
from rackwright.schema.cluster_api import ClusterApi
from tests.support.object_store import certificates


@dataclass(frozen=True)
class Answer:
    """An answer of the server."""

    content: Any = None
    """The body: bytes, or what is written as JSON."""
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=lambda: {"Content-Type": "application/json"})
    write: Callable[[Any], object] | None = None
    """A function that writes the body to the connection, instead of *content*."""


Question = Mapping[str, str]
"""The values of a query by name."""
Respond = Callable[[Question], Answer]


def items(kind: str, *several: Any, more: str = "") -> Answer:
    """Return a page of a list of *kind*, whose items do not name their kind; *more* begins the next page."""
    return Answer({"kind": f"{kind}List", "metadata": {"continue": more} if more else {}, "items": list(several)})


def refusal(status: int, message: str) -> Answer:
    return Answer({"kind": "Status", "status": "Failure", "message": message, "code": status}, status)


def node(name: str, **labels: str) -> dict[str, Any]:
    ready = {"type": "Ready", "status": "True", "message": "kubelet is ready"}
    status = {"conditions": [ready], "nodeInfo": {"kubeletVersion": "v1.37.2"}}
    return {"metadata": {"name": name, "labels": labels}, "spec": {}, "status": status}


@dataclass
class CannedApi:
    """The running server: its answers by path, and the questions that came."""

    port: int
    authority: str
    answers: dict[str, Answer | Respond] = field(default_factory=dict)
    questions: list[tuple[str, str]] = field(default_factory=list)
    """Target and header Authorization of each question."""

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.port}"

    @property
    def declared(self) -> ClusterApi:
        secret = {"secret": "shared_token"}
        return ClusterApi.model_validate({"url": self.url, "ca": self.authority, "token": secret})

    def respond(self, target: str) -> Answer:
        address = urlsplit(target)
        answer = self.answers.get(address.path, refusal(404, "the server could not find the requested resource"))
        query = {name: values[0] for name, values in parse_qs(address.query).items()}
        return answer if isinstance(answer, Answer) else answer(query)


def usual() -> dict[str, Answer | Respond]:
    """Return the answers of an API with one node, and no object of a team."""
    lists: dict[str, Answer | Respond] = {path: items(kind) for kind, path in OBJECTS.items()}
    return {"/version": Answer({"gitVersion": "v1.37.2"}), NODES: items("Node", node("gpu-21", rack="c2")), **lists}


@contextlib.contextmanager
def canned_api(directory: Path) -> Iterator[CannedApi]:
    """Run the server with a certificate of an authority of its own, until the block ends."""
    pem = certificates(directory, ["127.0.0.1"])
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(directory / "host.crt", directory / "host.key")

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_GET(self) -> None:
            api.questions.append((self.path, self.headers.get("Authorization", "")))
            answer = api.respond(self.path)
            content = answer.content if isinstance(answer.content, bytes) else json.dumps(answer.content).encode()
            self.send_response(answer.status)
            for name, value in answer.headers.items():
                self.send_header(name, value)
            if answer.write is None:
                self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            with contextlib.suppress(OSError):  # the client may have gone
                if answer.write is None:
                    self.wfile.write(content)
                else:
                    self.close_connection = True
                    answer.write(self.wfile)

        def log_message(self, *arguments: Any) -> None: ...

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        block_on_close = False

        def finish_request(self, request: Any, client: Any) -> None:
            with contextlib.suppress(OSError):  # a client that refuses the certificate
                super().finish_request(context.wrap_socket(request, server_side=True), client)

    server = Server(("127.0.0.1", 0), Handler)
    api = CannedApi(server.server_address[1], pem["authority.crt"], usual())
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield api
    finally:
        server.shutdown()
        server.server_close()
