"""The server over real HTTP: what it answers, whom it refuses, and that nobody else pays for a bad request."""

import asyncio
import contextlib
import gzip
import json
import re
import socket
import subprocess
import sys
import threading
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.support.model_servers import INFER, Background, Held, Here, ask, eventually, here, request, served
from tests.support.training_runs import ROOT, environment
from workloads.serving import body as bodies
from workloads.serving import keys, offload, serve, wire
from workloads.serving.keys import Key, Keys
from workloads.serving.settings import ServingSettings
from workloads.serving.watch_config import AccuracyReading, AccuracyRecord, with_reading
from workloads.training.config import Digits
from workloads.training.data import held_out

HELD = INFER.format("held")
ONE = request(np.zeros((1, 2)))
POST = b"POST " + HELD.encode() + b" HTTP/1.1\r\nHost: x\r\n"


@pytest.fixture
def free():
    """Return a server whose model computes as fast as it is asked."""
    runtime = Held()
    for _ in range(10_000):
        runtime.go.release()
    with here(runtime, body_bytes=4096, max_batch=4) as server:
        yield server


def raw(server: Here, *parts: bytes) -> bytes:
    """Send *parts* as they are, and return all that comes until the server closes the connection."""
    with socket.create_connection(server.address, timeout=60) as connection:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # it has heard enough
            for part in parts:
                connection.sendall(part)
        got = b""
        while part := connection.recv(65536):
            got += part
        return got


def test_the_digits_are_read(digits: Path) -> None:
    """Trained here, exported, published, served in a process of its own: as JSON and as bytes alike."""
    unseen = held_out(Digits())
    images = unseen.x.numpy()[:32]
    with served(digits) as server:
        answer = ask(server.address, INFER.format("digits"), request(images))
        head = request(images)
        told = json.loads(head)
        told["inputs"][0] |= {"data": None, "parameters": {"binary_data_size": images.nbytes}}
        told["outputs"] = [{"name": "logits", "parameters": {"binary_data": True}}]
        head = json.dumps(told).encode()
        size = {"Inference-Header-Content-Length": str(len(head))}
        as_bytes = ask(server.address, INFER.format("digits"), head + images.tobytes(), size)
        about = ask(server.address, "/v2/models/digits").json
        assert server.end() == 0

    assert answer.status == as_bytes.status == 200
    logits = np.array(answer.json["outputs"][0]["data"]).reshape(32, 10)
    tail = as_bytes.content[int(as_bytes.headers["inference-header-content-length"]) :]
    np.testing.assert_allclose(np.frombuffer(tail, "<f4").reshape(32, 10), logits, rtol=1e-6)
    assert (logits.argmax(1) == unseen.y.numpy()[:32]).mean() > 0.8
    assert about["versions"] == [answer.json["model_version"]]
    assert about["inputs"] == [{"name": "x", "datatype": "FP32", "shape": [-1, 8, 8]}]
    assert about["lineage"]["training"]["step"] == 100
    assert [line["path"] for line in server.requests] == [*[INFER.format("digits")] * 2, "/v2/models/digits"]


def test_a_server_needs_no_pytorch(digits: Path) -> None:
    script = (
        "import sys; from pathlib import Path; from workloads.serving import serve;"
        f"serve.load_runtime(Path({str(digits)!r}));"
        f"print({{'torch', 'onnx', 'sklearn', 'xllamacpp'}} & sys.modules.keys())"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, env=environment(), capture_output=True, text=True)
    assert done.stdout == "set()\n", done.stderr


def test_a_checkpoint_answers_as_its_export_does(digits: Path) -> None:
    from workloads.serving.runtimes import load_runtime

    images = held_out(Digits()).x.numpy()[:8]
    exported, trained = (
        load_runtime(each, ServingSettings(threads=1)) for each in (digits, digits.parent / "training")
    )

    assert trained.description.startswith("PyTorch")
    assert exported.description.startswith("ONNX Runtime")
    np.testing.assert_allclose(
        exported.infer({"x": images})["logits"], trained.infer({"x": images})["logits"], rtol=1e-3, atol=1e-4
    )


@pytest.mark.parametrize(
    ("method", "path", "status", "told"),
    [
        ("GET", "/health", 200, {"live": True}),
        ("GET", "/v2/health/live", 200, {"live": True}),
        ("GET", "/ready", 200, {"ready": True, "version": "1"}),
        ("GET", "/v2/health/ready", 200, {"ready": True, "version": "1"}),
        ("GET", "/v2/models/held/ready", 200, {"name": "held", "ready": True}),
        ("GET", "/v2/models/held/versions/1/ready", 200, {"name": "held", "ready": True}),
        ("GET", "/v2/models/held/versions/2/ready", 404, {"error": "no version 2 of held here; this server has 1"}),
        *(
            (
                method,
                path,
                404,
                {"error": f"the server has no extension {extension}; it has binary_tensor_data, model_lineage"},
            )
            for method, path, extension in (
                ("GET", "/v2/models/held/config", "model_configuration"),
                ("GET", "/v2/models/held/versions/1/config", "model_configuration"),
                ("GET", "/v2/models/stats", "statistics"),
                ("GET", "/v2/models/held/stats", "statistics"),
                ("POST", "/v2/repository/index", "model_repository"),
            )
        ),
        ("GET", "/v2/models/other", 404, {"error": "no model other here; this server has held"}),
        ("GET", "/v2/models/held/versions/2", 404, {"error": "no version 2 of held here; this server has 1"}),
        ("POST", "/v2/models/held/versions/2/infer", 404, {"error": "no version 2 of held here; this server has 1"}),
        ("GET", "/v2/models/held/infer", 405, {"error": "Method Not Allowed"}),
        ("GET", "/nowhere", 404, {"error": "Not Found"}),
        ("POST", HELD, 400, {"error": "the body: Invalid JSON: EOF while parsing a value at line 1 column 0"}),
    ],
)
def test_routes(free: Here, method: str, path: str, status: int, told: object) -> None:
    answer = ask(free.address, path, b"" if method == "POST" else None)
    assert (answer.status, answer.json) == (status, told)


def test_the_metadata_has_the_lineage(free: Here) -> None:
    told = ask(free.address, "/v2/models/held/versions/1").json
    assert told["lineage"] == {"of": "a test"}
    assert told["platform"] == "onnx"


def test_the_document_names_every_route_and_refusal(free: Here) -> None:
    document = ask(free.address, "/openapi.json").json
    infer = document["paths"]["/v2/models/{name}/infer"]["post"]

    assert {"/health", "/ready", "/metrics", "/v2", "/v2/models/{name}"} <= document["paths"].keys()
    assert {"400", "401", "403", "404", "408", "413", "429", "504"} <= infer["responses"].keys()
    schema = infer["requestBody"]["content"]["application/json"]["schema"]
    assert "inputs" in _there(document, schema)["properties"]
    assert infer["parameters"][0]["schema"]["enum"] == ["held"]
    for reference in re.findall(r'"\$ref": ?("[^"]*")', json.dumps(document)):
        _there(document, {"$ref": json.loads(reference)})


def _there(document: dict[str, Any], schema: dict[str, str]) -> dict[str, Any]:
    """Return what *schema* refers to in *document*."""
    for name in schema["$ref"].removeprefix("#/").split("/"):
        document = document[name]
    return document


@pytest.mark.parametrize(
    ("headers", "told"),
    [
        ({"Inference-Header-Content-Length": "x"}, "inference-header-content-length: got 'x'; it is a number of bytes"),
        ({"Inference-Header-Content-Length": "-1"}, "inference-header-content-length: got '-1'; it is a number of"),
        ({"Inference-Header-Content-Length": "9999"}, "inference-header-content-length: got 9999; the body has"),
    ],
)
def test_a_wrong_header_is_told(free: Here, headers: dict[str, str], told: str) -> None:
    answer = ask(free.address, HELD, ONE, headers)
    assert answer.status == 400
    assert answer.json["error"].startswith(told)


def test_a_body_that_is_too_large_is_refused_with_its_length_or_without(free: Here) -> None:
    for chunked in (False, True):
        connection = HTTPConnection(*free.address, timeout=60)
        body = iter([b" " * 4096, b" "]) if chunked else b" " * 4097
        connection.request("POST", HELD, body, encode_chunked=chunked)
        answer = connection.getresponse()
        assert (answer.status, answer.read()) == (413, b'{"error":"the body is larger than 4096 bytes"}')
        connection.close()


@pytest.mark.parametrize("tail", [b"", np.zeros((1, 2), "<f4").tobytes()])
def test_a_compressed_body_is_read_as_its_sender_wrote_it(free: Here, tail: bytes) -> None:
    """Triton's client compresses JSON and tensors together, and counts the JSON as it was before."""
    told = json.loads(ONE)
    if tail:
        told["inputs"][0] |= {"data": None, "parameters": {"binary_data_size": len(tail)}}
    head = json.dumps(told).encode()
    headers = {"content-encoding": "gzip", **({"inference-header-content-length": str(len(head))} if tail else {})}
    answer = ask(free.address, HELD, gzip.compress(head + tail), headers)
    assert (answer.status, answer.json["outputs"][0]["data"]) == (200, [0, 0])
    bomb = ask(free.address, HELD, gzip.compress(bytes(1 << 20)), {"content-encoding": "gzip"})
    assert (bomb.status, bomb.json["error"]) == (413, "the body is larger than 4096 bytes")
    other = ask(free.address, HELD, ONE, {"content-encoding": "zstd"})
    assert (other.status, other.headers["accept-encoding"]) == (415, "identity, gzip, deflate")


def test_who_asks_before_he_sends_too_much_need_not_send(free: Here) -> None:
    got = raw(free, POST + b"Content-Length: 99999\r\nExpect: 100-continue\r\n\r\n")
    assert got.startswith(b"HTTP/1.1 413 ")


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"\0\1\2\r\n\r\n", b"400"),
        (b"GET / HTTP/9.9\r\n\r\n", b"400"),
        (POST + b"Content-Length: -5\r\n\r\n", b"400"),
        (POST + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n", b"400"),
        (POST + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n", b"400"),
        (b"GET /health HTTP/1.1\r\n" + b"a: b\r\n" * 20_000, b"431"),
        (b"GET /" + b"a" * 100_000, b"431"),
    ],
)
def test_what_is_no_http_is_answered_and_closed(free: Here, sent: bytes, status: bytes) -> None:
    assert raw(free, sent).startswith(b"HTTP/1.1 " + status)
    assert ask(free.address, "/health").status == 200


def test_slow_clients_are_let_go_and_others_do_not_notice() -> None:
    runtime = Held()
    runtime.go.release()
    with here(runtime, head_seconds=0.2, body_seconds=0.2) as server:
        silent = raw(server)
        halfway = raw(server, b"GET /health HT")
        dribble = raw(server, POST + b"Content-Length: 100\r\n\r\n{")
        assert ask(server.address, HELD, ONE).status == 200

    assert silent.startswith(b"HTTP/1.1 408 ")
    assert halfway.startswith(b"HTTP/1.1 408 ")
    assert dribble.startswith(b"HTTP/1.1 408 ")
    assert b"the body did not arrive within 0.2 s" in dribble


def test_a_connection_that_is_kept_may_be_silent_between_requests() -> None:
    with here(Held(), head_seconds=0.05) as server:
        connection = HTTPConnection(*server.address, timeout=60)
        connection.request("GET", "/health")
        assert connection.getresponse().read() == b'{"live":true}'
        assert raw(server).startswith(b"HTTP/1.1 408 "), "time has passed for who had not asked yet"
        connection.request("GET", "/health")
        assert connection.getresponse().status == 200
        connection.close()


def test_while_a_large_body_is_read_others_are_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    Two large bodies are read one after the other; a small one does not wait for them.
    """
    reading, go, read = threading.Semaphore(0), threading.Event(), wire.read

    def slow(content: bytes, *arguments: Any) -> wire.InferenceRequest:
        if len(content) > offload.SMALL_BYTES:
            reading.release()
            assert go.wait(60)
        return read(content, *arguments)

    monkeypatch.setattr(wire, "read", slow)
    runtime, background = Held(), Background()
    for _ in range(10):
        runtime.go.release()
    large = ONE + b" " * offload.SMALL_BYTES
    with here(runtime) as server:
        background.ask(server.address, HELD, large)
        background.ask(server.address, HELD, large)
        assert reading.acquire(timeout=60)
        assert ask(server.address, "/health").status == 200
        assert ask(server.address, HELD, ONE).status == 200
        assert not reading.acquire(blocking=False)
        go.set()
        assert [answer.status for answer in background.all()] == [200, 200]


def test_bodies_of_all_connections_together_have_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    Slow uploads hold what has come of them; once they are gone, there is room again.
    """
    monkeypatch.setattr(bodies, "MAX_BODIES", 1)
    runtime = Held()
    runtime.go.release()
    part = b" " * 600
    with here(runtime, body_bytes=1000) as server:
        with socket.create_connection(server.address) as slow:
            slow.sendall(POST + b"Content-Length: 900\r\n\r\n" + part)
            eventually(lambda: bodies.BufferedBodies.bytes == 600)
            answer = ask(server.address, HELD, ONE + b" " * 600)
            assert (answer.status, answer.headers["retry-after"]) == (503, "1")
        eventually(lambda: bodies.BufferedBodies.bytes == 0)
        assert ask(server.address, HELD, ONE + b" " * 600).status == 200
    assert bodies.BufferedBodies.bytes == 0


def test_a_large_body_that_has_no_turn_in_time_gets_504(monkeypatch: pytest.MonkeyPatch) -> None:
    go, read = threading.Event(), wire.read

    def slow(*arguments: Any) -> wire.InferenceRequest:
        assert go.wait(60)
        return read(*arguments)

    monkeypatch.setattr(wire, "read", slow)
    with here(Held(), deadline_seconds=0.2) as server:
        answer = ask(server.address, HELD, ONE + b" " * offload.SMALL_BYTES)
        go.set()

    assert (answer.status, answer.json) == (504, {"error": "no answer within 0.2 s"})


def test_a_client_that_goes_before_its_answer_harms_nobody() -> None:
    runtime = Held()
    with here(runtime) as server:
        with socket.create_connection(server.address) as connection:
            connection.sendall(POST + b"Content-Length: %d\r\n\r\n%b" % (len(ONE), ONE))
            assert runtime.began.acquire(timeout=60)
        for _ in range(2):
            runtime.go.release()
        assert ask(server.address, HELD, ONE).status == 200


def test_a_full_queue_is_429_and_says_when_to_come_back() -> None:
    runtime, background = Held(), Background()
    with here(runtime, queue=3) as server:
        background.ask(server.address, HELD, ONE)
        assert runtime.began.acquire(timeout=60)
        for _ in range(3):
            background.ask(server.address, HELD, ONE)
        eventually(lambda: server.figure("rackwright_server_queue_requests") == 3)
        full = ask(server.address, HELD, ONE)
        for _ in range(2):
            runtime.go.release()
        assert [answer.status for answer in background.all()] == [200] * 4
    assert full.status == 429
    assert int(full.headers["retry-after"]) >= 1
    assert runtime.batches == [1, 3], "those that waited went together"


def test_a_deadline_that_passes_is_504_and_frees_its_place() -> None:
    runtime, background = Held(), Background()
    with here(runtime, queue=1) as server:
        background.ask(server.address, HELD, ONE)
        assert runtime.began.acquire(timeout=60)
        late = ask(server.address, HELD, request(np.zeros((1, 2)), parameters={"timeout": 50_000}))
        assert server.figure("rackwright_server_queue_requests") == 0
        runtime.go.release()
        assert [answer.status for answer in background.all()] == [200]
    assert (late.status, late.json) == (504, {"error": "no answer within 0.05 s"})
    assert runtime.batches == [1], "what was late was not computed"


def test_a_model_that_fails_is_500_without_what_it_was_given(capfd: pytest.CaptureFixture[str]) -> None:
    runtime = Held()
    for _ in range(2):
        runtime.go.release()
    head = json.dumps({"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 2],
                                   "parameters": {"binary_data_size": 8}}]}).encode()  # fmt: skip
    with here(runtime) as server:
        size = {"Inference-Header-Content-Length": str(len(head))}
        failed = ask(server.address, HELD, head + np.array([np.inf, 7], np.float32).tobytes(), size)
        assert ask(server.address, HELD, ONE).status == 200, "the next one is answered"
    assert failed.status == 500
    assert failed.json == {"error": "the server failed with RuntimeError; see its log"}


def test_the_log_has_no_payload(free: Here) -> None:
    secret = "4711.25"
    ask(free.address, HELD, ONE.replace(b"0.0", secret.encode(), 1), {"X-Request-Id": "mine"})
    ask(free.address, HELD, b'{"inputs": "' + secret.encode() + b'"}')
    eventually(lambda: len(free.requests) == 2)

    good, bad = free.requests
    assert (good["request"], good["status"], good["rows"], good["path"]) == ("mine", 200, 1, HELD)
    assert (bad["status"], bad["reason"]) == (400, "malformed")
    assert good["bytes_received"] == len(ONE) - 3 + len(secret)
    assert secret not in json.dumps(free.log)


def test_figures_count_what_was_answered(free: Here) -> None:
    ask(free.address, HELD, ONE)
    ask(free.address, HELD, b"{")
    text = ask(free.address, "/metrics").content.decode()

    route = 'route="/v2/models/{name}/infer"'
    assert f'rackwright_server_requests_total{{{route},status="200"}} 1.0' in text
    assert f'rackwright_server_requests_total{{{route},status="400"}} 1.0' in text
    assert 'rackwright_server_model{name="held",runtime="onnx",version="1"} 1.0' in text
    assert "rackwright_server_batch_rows_count 1.0" in text
    assert re.search(r"^process_resident_memory_bytes \d", text, re.M)


def test_what_a_watch_has_noted_is_a_figure(tmp_path: Path) -> None:
    """
    The thresholds are figures as well, so that the rules of docs/alerts are the same for all servers.
    """

    def reading(at: int, accuracy: float) -> AccuracyReading:
        return AccuracyReading(at=at, release="aaaaaaaaaaaa", version="1", rows="rows.npz", accuracy=accuracy)

    name, path = "rackwright_server_accuracy", tmp_path / "watch.json"
    with here(Held(), watch=str(path)) as server:
        at_first = [server.figure(f"{name}_{what}") for what in ("timestamp_seconds", "every_seconds", "unknown")]
        assert at_first == [0, 0, 0]
        assert f"{name} " not in ask(server.address, "/metrics").content.decode()

        noted = with_reading(with_reading(AccuracyRecord(every_seconds=900, change=0.02), reading(1000, 0.95), 0.9),
                             reading(2000, 0.875), 0.9)  # fmt: skip
        path.write_text(noted.model_copy(update={"why_not": "nobody answers"}).model_dump_json())

        assert server.figure(name) == 0.875
        told = {what: server.figure(f"{name}_{what}") for what in (
            "timestamp_seconds", "every_seconds", "unknown", "asked", "change", "change_allowed"
        )}  # fmt: skip
        assert told == {
            "timestamp_seconds": 2000, "every_seconds": 900, "unknown": 1, "asked": 0.9, "change": -0.075,
            "change_allowed": 0.02,
        }  # fmt: skip
        asked = re.findall(r"\brackwright_server_accuracy\w*", (ROOT / "docs/alerts/servers.yaml").read_text())
        assert asked
        assert {*asked} <= {*re.findall(r"^\w+", ask(server.address, "/metrics").content.decode(), re.M)}


def test_nobody_watches_and_there_is_no_figure_of_it(free: Here) -> None:
    assert "accuracy" not in ask(free.address, "/metrics").content.decode()


def made(capsys: pytest.CaptureFixture[str], name: str, scopes: str) -> tuple[str, Key]:
    """Return a key as `python -m workloads.serving.keys` makes it, and its line."""
    assert keys.main([name, "--scopes", scopes]) == 0
    said = capsys.readouterr()
    return said.err.split()[-1], Key.model_validate_json(said.out)


def test_a_key_may_what_its_scopes_say(capsys: pytest.CaptureFixture[str]) -> None:
    runtime = Held()
    for _ in range(9):
        runtime.go.release()
    infer, line = made(capsys, "app", "infer")
    figures, other = made(capsys, "prometheus", "metrics")
    with here(runtime, Keys([line, other])) as server:

        def status(path: str, body: bytes | None, key: str) -> int:
            return ask(server.address, path, body, {"Authorization": f"Bearer {key}"} if key else {}).status

        assert [status(HELD, ONE, key) for key in ("", "wrong", infer, figures)] == [401, 401, 200, 403]
        assert [status("/metrics", None, key) for key in ("", infer, figures)] == [401, 403, 200]
        assert [status("/v2/models/held", None, key) for key in ("", infer)] == [401, 403]
        assert [status("/nowhere", None, ""), status("/openapi.json", None, "")] == [401, 401]
        assert [status(path, None, "") for path in ("/health", "/ready", "/v2/health/ready")] == [200] * 3
        eventually(lambda: len(server.requests) == 14)

    assert [line.get("key") for line in server.requests[:4]] == [None, None, "app", "prometheus"]
    assert infer not in json.dumps(server.log)
    assert infer not in line.model_dump_json()


def test_a_file_of_keys_is_read_whole_or_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    token, line = made(capsys, "app", "infer,read")
    path = tmp_path / "keys.json"
    path.write_text(f"[{line.model_dump_json()}]")
    found = keys.read(path).find(f"bearer {token}")
    assert found == line
    for content, told in (
        (f"[{line.model_dump_json()}, {line.model_dump_json()}]", "the file has a key twice"),
        ('[{"name": "a", "sha256": "hunter2", "scopes": ["all"]}]', "0.sha256: String should match pattern"),
    ):
        path.write_text(content)
        with pytest.raises(keys.UserError, match=told) as refused:
            keys.read(path)
        assert "hunter2" not in str(refused.value)
    assert keys.main(["a", "--scopes", "infer,all"]) == 2
    assert capsys.readouterr().err == (
        "error: --scopes: no such scope, all\n  expected: some of infer, read, metrics\n  help:     Correct --scopes\n"
    )


def test_no_answer_waits_for_the_client_to_confirm_the_one_before() -> None:
    """Nagle's algorithm is off on every connection: with it each answer of a kept one takes 40 ms more."""

    async def accepted() -> int:
        found: asyncio.Future[int] = asyncio.get_running_loop().create_future()

        def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            connection = writer.get_extra_info("socket")
            found.set_result(connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
            writer.close()

        bound = serve._bind(ServingSettings(port=0))
        async with await asyncio.start_server(connected, sock=bound):
            _, writer = await asyncio.open_connection(*bound.getsockname())
            writer.close()
            return await found

    assert asyncio.run(accepted()) == 1
