"""What the probe sees of model servers: files that root has put there, and what a server answers."""

import hashlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from rackwright.facts.facts import Facts
from rackwright.facts.probe import servers

LIB = "var/lib/rackwright/servers/digits"
VERSION = "0123456789ab"
METRICS = """\
rackwright_server_requests_total{route="/v2/models/{name}/infer",status="200"} 99.0
rackwright_server_requests_total{route="/v2/models/{name}/infer",status="429"} 1.0
rackwright_server_request_seconds_bucket{le="0.005",route="/v2/models/{name}/infer"} 60.0
rackwright_server_request_seconds_bucket{le="0.01",route="/v2/models/{name}/infer"} 98.0
rackwright_server_request_seconds_bucket{le="0.025",route="/v2/models/{name}/infer"} 100.0
rackwright_server_request_seconds_bucket{le="+Inf",route="/v2/models/{name}/infer"} 100.0
rackwright_server_request_seconds_bucket{le="0.005",route="/ready"} 5000.0
rackwright_server_queue_requests 3.0
"""


class Answering(BaseHTTPRequestHandler):
    ready = 200
    key = "a key"
    metrics = METRICS

    def do_GET(self) -> None:
        body, status = json.dumps({"ready": self.ready == 200, "version": VERSION}).encode(), self.ready
        if self.path == "/metrics":
            allowed = self.headers.get("authorization") == f"Bearer {self.key}"
            body, status = self.metrics.encode(), 200 if allowed else 401
        self.send_response(status)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *arguments: Any) -> None: ...


@pytest.fixture
def port() -> Iterator[int]:
    with HTTPServer(("127.0.0.1", 0), Answering) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


@pytest.fixture
def top(tmp_path: Path) -> Path:
    model = tmp_path / LIB / "models" / VERSION
    model.mkdir(parents=True)
    (model / "model.onnx").write_bytes(b"weights")
    told = {"bytes": 7, "sha256": hashlib.sha256(b"weights").hexdigest()}
    (model / "model.json").write_text(json.dumps({"files": {"model.onnx": told}}))
    for release, version in (("aaaaaaaaaaaa", VERSION), ("bbbbbbbbbbbb", "ba9876543210")):
        (tmp_path / LIB / "releases" / release).mkdir(parents=True)
        (tmp_path / LIB / "releases" / release / "release.json").write_text(json.dumps({"version": version}))
    (tmp_path / LIB / "current").symlink_to("releases/aaaaaaaaaaaa")
    (tmp_path / LIB / "state.json").write_text('{"previous": "bbbbbbbbbbbb", "refused": null}')
    etc = tmp_path / "etc/rackwright/servers/digits"
    etc.mkdir(parents=True)
    (etc / "own_key").write_text("a key\n")
    return tmp_path


def seen(top: Path, port: int) -> Facts:
    etc = "/etc/rackwright/servers/digits"
    plan = {"lib": f"/{LIB}", "host": "127.0.0.1", "port": port, "tls": False, "key": f"{etc}/own_key"}
    (top / etc.lstrip("/") / "server.json").write_text(json.dumps(plan))
    return Facts({"servers": servers.servers(str(top))})


def test_a_server_says_itself_what_it_serves(top: Path, port: int) -> None:
    server = seen(top, port).server("digits")

    assert server is not None
    assert (server.ready, server.version, server.why) == (True, VERSION, None)
    assert (server.release, server.previous, server.refused) == ("aaaaaaaaaaaa", "ba9876543210", None)
    assert server.models == {VERSION: "whole"}
    assert server.accuracy is None


def test_what_a_watch_has_noted_is_told_without_its_history(top: Path, port: int) -> None:
    noted = {"found": {"at": 7, "accuracy": 0.5}, "before": None, "least": 0.9, "why_not": None}
    (top / LIB / "watch.json").write_text(json.dumps({**noted, "readings": [noted["found"]], "every_seconds": 60}))
    server = seen(top, port).server("digits")

    assert server is not None
    assert server.accuracy == noted


@pytest.mark.parametrize("content", ["", "{", "{}"])
def test_what_a_watch_has_noted_and_cannot_be_read_is_not_known(top: Path, port: int, content: str) -> None:
    (top / LIB / "watch.json").write_text(content)
    server = seen(top, port).server("digits")

    assert server is not None
    assert server.ready
    with pytest.raises(Exception, match="accuracy"):
        _ = server.accuracy


def test_its_figures_are_of_inference_alone(top: Path, port: int) -> None:
    server = seen(top, port).server("digits")

    assert server is not None
    assert server.figures == {"requests": 100, "p50_ms": 5.0, "p99_ms": 25.0, "waiting": 3}


def test_those_of_a_language_model_are_of_its_routes(top: Path, port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Answering, "metrics", METRICS.replace("/v2/models/{name}/infer", "/v1/chat/completions"))
    server = seen(top, port).server("digits")

    assert server is not None
    assert server.figures == {"requests": 100, "p50_ms": 5.0, "p99_ms": 25.0, "waiting": 3}


def test_one_that_is_told_to_stop_is_not_ready(top: Path, port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Answering, "ready", 503)
    server = seen(top, port).server("digits")

    assert server is not None
    assert (server.ready, server.version, server.why) == (False, VERSION, "it answers 503")


def test_that_nobody_answers_is_known(top: Path, port: int) -> None:
    """
    A port that nobody listens on refuses; figures are then not known, and all else is.
    """
    import socket

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        server = seen(top, taken.getsockname()[1]).server("digits")

        assert server is not None
        assert (server.ready, server.version) == (False, None)
        assert "refused" in str(server.why)
        assert server.models == {VERSION: "whole"}
        with pytest.raises(Exception, match="figures: it does not answer"):
            _ = server.figures


@pytest.mark.parametrize(
    ("content", "said"),
    [(b"weightz", "model.onnx is not what was published"), (b"w", "model.onnx has 1 bytes, not 7")],
)
def test_a_model_that_was_changed_is_not_whole(top: Path, port: int, content: bytes, said: str) -> None:
    (top / LIB / "models" / VERSION / "model.onnx").write_bytes(content)
    server = seen(top, port).server("digits")

    assert server is not None
    assert server.models == {VERSION: said}
