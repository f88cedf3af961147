"""What the probe sees of model servers: files that root has put there, and what a server answers."""

import contextlib
import hashlib
import json
import os
import pwd
import re
import shutil
import socketserver
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest

from rackwright.facts.facts import Facts
from rackwright.facts.probe import servers

LIB = "var/lib/rackwright/servers/digits"
DIGEST = hashlib.sha256(b"weights").hexdigest()
VERSION = hashlib.sha256(json.dumps({"model.onnx": DIGEST}).encode()).hexdigest()[:12]
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


class Listening(socketserver.ThreadingUnixStreamServer):
    """What answers on a Unix socket."""

    daemon_threads = True

    def get_request(self) -> Any:
        connection, _ = super().get_request()
        return connection, ("", 0)  # a handler of HTTP wants an address


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Yield the path of a server's socket below the top, which answers."""
    monkeypatch.setattr(servers, "run_tool", lambda *argv: "active\n")
    folder = tmp_path / "run"
    folder.mkdir()
    with Listening(str(folder / "socket"), Answering) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        yield "/run/socket"
        server.shutdown()
        thread.join()


@pytest.fixture
def top(tmp_path: Path) -> Path:
    model = tmp_path / LIB / "models" / VERSION
    model.mkdir(parents=True)
    (model / "model.onnx").write_bytes(b"weights")
    content = {"bytes": 7, "sha256": DIGEST}
    (model / "model.json").write_text(json.dumps({"files": {"model.onnx": content}}))
    for release, version in (("aaaaaaaaaaaa", VERSION), ("bbbbbbbbbbbb", "ba9876543210")):
        (tmp_path / LIB / "releases" / release).mkdir(parents=True)
        (tmp_path / LIB / "releases" / release / "release.json").write_text(json.dumps({"version": version}))
        (tmp_path / LIB / "releases" / release / "model").symlink_to(f"../../models/{version}")
    (tmp_path / LIB / "current").symlink_to("releases/aaaaaaaaaaaa")
    (tmp_path / LIB / "state.json").write_text('{"previous": "bbbbbbbbbbbb", "refused": null}')
    etc = tmp_path / "etc/rackwright/servers/digits"
    etc.mkdir(parents=True)
    (etc / "own_key").write_text("a key\n")
    return tmp_path


def seen(top: Path, path: str) -> Facts:
    etc = "/etc/rackwright/servers/digits"
    plan = {"unit": "server-digits.service", "lib": f"/{LIB}", "key": f"{etc}/own_key"}
    plan |= {"socket": path, "account": pwd.getpwuid(os.geteuid()).pw_name}
    (top / etc.lstrip("/") / "server.json").write_text(json.dumps(plan))
    return Facts({"servers": servers.servers(str(top))})


def test_a_server_says_itself_what_it_serves(top: Path, path: str) -> None:
    server = seen(top, path).server("digits")

    assert server is not None
    assert (server.ready, server.version, server.why) == (True, VERSION, None)
    assert (server.release, server.previous, server.failed_release) == ("aaaaaaaaaaaa", "ba9876543210", None)
    assert server.models == {VERSION: "whole"}
    assert server.accuracy is None


def test_a_model_whose_manifest_was_changed_with_it_is_of_another_version(top: Path, path: str) -> None:
    model = top / LIB / "models" / VERSION
    (model / "model.onnx").write_bytes(b"strange")
    content = {"bytes": 7, "sha256": hashlib.sha256(b"strange").hexdigest()}
    (model / "model.json").write_text(json.dumps({"version": VERSION, "files": {"model.onnx": content}}))

    server = seen(top, path).server("digits")

    assert server is not None
    assert server.models[VERSION].startswith("model.json is of version ")
    assert server.manifests[VERSION] == hashlib.sha256((model / "model.json").read_bytes()).hexdigest()


@pytest.mark.parametrize(
    ("link", "target", "release"),
    (
        ("current", "/opt/x/aaaaaaaaaaaa", "/opt/x/aaaaaaaaaaaa"),
        ("releases/aaaaaaaaaaaa/model", "/opt/x", "aaaaaaaaaaaa with the model /opt/x"),
    ),
)
def test_a_link_elsewhere_is_no_release(top: Path, path: str, link: str, target: str, release: str) -> None:
    (top / LIB / link).unlink()
    (top / LIB / link).symlink_to(target)

    server = seen(top, path).server("digits")

    assert server is not None
    assert server.release == release


def test_files_that_no_release_uses_are_listed(top: Path, path: str) -> None:
    extra = ("queue.py", ".hidden", "releases/aaaaaaaaaaaa/queue.py", "releases/cccccccccccc", "models/x", "data/x.npz")
    (top / LIB / "models/ba9876543210").mkdir()
    (top / LIB / "data").mkdir()
    for name in ("lock", "watch.json", ".state.json.x1y2"):
        (top / LIB / name).touch()  # what a switch and a watch write
    (top / LIB / "models/.0123456789ab.partial").mkdir()
    server = seen(top, path).server("digits")
    assert server is not None
    assert (server.others, server.has_state, server.canary_rows) == ((), True, {})

    for name in extra:
        (top / LIB / name).touch()
    (top / LIB / "state.json").unlink()
    server = seen(top, path).server("digits")

    assert server is not None
    # without the record, the release before the current one is not known either
    more = ("models/ba9876543210", "releases/bbbbbbbbbbbb")
    assert server.others == tuple(sorted((*extra, *more)))
    assert (server.has_state, server.canary_rows) == (False, {"x.npz": "it has other content"})


@pytest.mark.parametrize(
    ("name", "state"),
    [
        ("generation_config.json", "generation_config.json is not of the model"),
        ("sitecustomize.py", "sitecustomize.py is not of the model"),
        (".hidden", ".hidden is not of the model"),
        ("onnx/queue.py", "onnx is not of the model"),
    ],
)
@pytest.mark.parametrize("sort", ["models", "adapters"])
def test_a_model_has_no_other_files(top: Path, path: str, sort: str, name: str, state: str) -> None:
    if sort == "adapters":
        shutil.copytree(top / LIB / "models", top / LIB / "adapters")
    file = top / LIB / sort / VERSION / name
    file.parent.mkdir(exist_ok=True)
    file.touch()
    server = seen(top, path).server("digits")

    assert server is not None
    assert getattr(server, sort) == {VERSION: state}


def test_below_a_folder_of_a_model_there_are_no_other_files(top: Path, path: str) -> None:
    files = {"onnx/model.onnx": {"bytes": 7, "sha256": DIGEST}}
    version = servers.version_of_files(files)
    folder = top / LIB / "models" / version
    (folder / "onnx").mkdir(parents=True)
    (folder / "onnx/model.onnx").write_bytes(b"weights")
    (folder / "model.json").write_text(json.dumps({"files": files}))
    assert servers.model(str(folder)) == "whole"

    (folder / "onnx/evil.py").touch()
    assert servers.model(str(folder)) == "onnx/evil.py is not of the model"

    shutil.rmtree(folder / "onnx")
    assert servers.model(str(folder)) == "onnx/model.onnx is not there"


@pytest.mark.parametrize("name", ["model.onnx", "model.json", ""])
def test_a_model_has_no_links(top: Path, path: str, name: str) -> None:
    model = top / LIB / "models" / VERSION
    (model / name).rename(top / "elsewhere")
    Path(str(model / name).rstrip("/")).symlink_to(top / "elsewhere")
    server = seen(top, path).server("digits")

    assert server is not None
    assert server.models == {VERSION: f"{name} is no regular file" if name else "it is no directory"}


def test_unfinished_work_has_a_type_and_an_age(top: Path, path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    (top / LIB / "adapters").mkdir()
    for name in ("adapters/evil", ".state.json.d", ".watch.json.d", "models/ba9876543210", ".aaaaaaaaaaaa.partial"):
        (top / LIB / name).mkdir()
    (top / LIB / "lock").symlink_to("/x")
    server = seen(top, path).server("digits")
    assert server is not None
    assert server.others == (".state.json.d", ".watch.json.d", "adapters/evil", "lock")

    monkeypatch.setattr(servers, "PASSING_SECONDS", 0)
    server = seen(top, path).server("digits")
    assert server is not None
    assert ".aaaaaaaaaaaa.partial" in server.others


def test_what_a_watch_has_noted_is_reported_without_its_history(top: Path, path: str) -> None:
    noted = {"found": {"at": 7, "accuracy": 0.5}, "before": None, "least": 0.9, "why_not": None}
    (top / LIB / "watch.json").write_text(json.dumps({**noted, "readings": [noted["found"]], "every_seconds": 60}))
    server = seen(top, path).server("digits")

    assert server is not None
    assert server.accuracy == noted


@pytest.mark.parametrize("content", ["", "{", "{}"])
def test_what_a_watch_has_noted_and_cannot_be_read_is_not_known(top: Path, path: str, content: str) -> None:
    (top / LIB / "watch.json").write_text(content)
    server = seen(top, path).server("digits")

    assert server is not None
    assert server.ready
    with pytest.raises(Exception, match="accuracy"):
        _ = server.accuracy


def test_its_figures_are_of_inference_alone(top: Path, path: str) -> None:
    server = seen(top, path).server("digits")

    assert server is not None
    assert server.figures == {"requests": 100, "p50_ms": 5.0, "p99_ms": 25.0, "waiting": 3}


def test_those_of_a_language_model_are_of_its_routes(top: Path, path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Answering, "metrics", METRICS.replace("/v2/models/{name}/infer", "/v1/chat/completions"))
    server = seen(top, path).server("digits")

    assert server is not None
    assert server.figures == {"requests": 100, "p50_ms": 5.0, "p99_ms": 25.0, "waiting": 3}


def test_one_that_is_asked_to_stop_is_not_ready(top: Path, path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Answering, "ready", 503)
    server = seen(top, path).server("digits")

    assert server is not None
    assert (server.ready, server.version, server.why) == (False, VERSION, "it answers 503")


def unanswered(top: Path, path: str) -> str:
    """Return why the server is not ready; all that the host knows without it is known."""
    server = seen(top, path).server("digits")

    assert server is not None
    assert (server.ready, server.version) == (False, None)
    assert server.models == {VERSION: "whole"}
    with pytest.raises(Exception, match="figures: "):
        _ = server.figures
    return str(server.why)


def test_that_nothing_answers_is_known(top: Path, path: str) -> None:
    assert "No such file" in unanswered(top, "/run/another")


def test_a_server_whose_unit_does_not_run_is_not_asked(top: Path, path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(servers, "run_tool", lambda *argv: "failed\n")
    monkeypatch.setattr(servers, "connect", None)

    assert unanswered(top, path) == "it does not answer: server-digits.service is failed"


def test_one_of_an_earlier_version_is_not_asked_over_the_network(
    top: Path, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def earlier(*arguments: Any) -> Any:
        report = json.loads(read(*arguments)) if arguments[0].endswith("server.json") else None
        return (
            read(*arguments) if report is None else json.dumps({name: report[name] for name in ("unit", "lib", "key")})
        )

    read = servers.read
    monkeypatch.setattr(servers, "read", earlier)

    assert "run `rackwright up` to update it" in unanswered(top, path)


def test_a_link_to_another_socket_is_not_followed(top: Path, path: str) -> None:
    """
    The account owns the directory of its socket, and root would speak to any service of the host by it.
    """
    (top / "run/link").symlink_to(top / path.lstrip("/"))

    assert "is no socket of the account" in unanswered(top, "/run/link")


def test_the_socket_of_another_account_is_not_asked(top: Path, path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    monkeypatch.setattr(Answering, "do_GET", lambda self: asked.append(self.headers.get("authorization")))
    monkeypatch.setattr(servers.pwd, "getpwnam", lambda name: pwd.struct_passwd(("x", "", 4711, 0, "", "", "")))

    assert "is no socket of the account 4711" in unanswered(top, path)
    assert asked == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file to another account")
def test_a_socket_on_which_another_account_listens_gets_no_key(
    top: Path, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    The socket is the account's; the process behind it is not.
    """
    asked: list[str] = []
    monkeypatch.setattr(Answering, "do_GET", lambda self: asked.append(self.headers.get("authorization")))
    monkeypatch.setattr(servers.pwd, "getpwnam", lambda name: pwd.struct_passwd(("x", "", 4711, 0, "", "", "")))
    os.chown(top / path.lstrip("/"), 4711, -1)

    assert "a process of the account 0 listens" in unanswered(top, path)
    assert asked == []


@pytest.mark.parametrize(
    ("head", "part", "expected"),
    [
        (b"HTTP/1.1 200 OK\r\ncontent-length: 9999999\r\n\r\n", b"x", "no complete answer within"),
        (b"HTTP/1.1 200 OK\r\n\r\n", b"x", "no complete answer within"),
        (b"HTTP/1.1 200 OK\r\n\r\n", b"x" * 65536, "more than 1048576 bytes"),
        (b"", b"HTTP/1.1 100 Continue\r\n\r\n", "no complete answer"),
        (b"HTTP/1.1 200 OK\r\n", b"x: y\r\n", "got more than 100 headers|no complete answer"),
    ],
    ids=["slow", "slow without a length", "endless", "endless 100", "endless head"],
)
def test_an_answer_has_an_end(
    top: Path, path: str, monkeypatch: pytest.MonkeyPatch, head: bytes, part: bytes, expected: str
) -> None:
    def endless(self: Answering) -> None:
        with contextlib.suppress(OSError):
            self.wfile.write(head)
            while True:
                self.wfile.write(part)

    monkeypatch.setattr(servers, "SECONDS", 0.3 if len(part) < 65536 else 60)
    monkeypatch.setattr(Answering, "do_GET", endless)

    assert re.search(expected, unanswered(top, path))


@pytest.mark.parametrize(
    ("content", "expected"),
    [(b"weightz", "model.onnx is not what was published"), (b"w", "model.onnx has 1 bytes, not 7")],
)
def test_a_model_that_was_changed_is_not_whole(top: Path, path: str, content: bytes, expected: str) -> None:
    (top / LIB / "models" / VERSION / "model.onnx").write_bytes(content)
    server = seen(top, path).server("digits")

    assert server is not None
    assert server.models == {VERSION: expected}
