"""The server over real HTTP: its routes and documents, its log and its figures."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.support.model_servers import FAILS, HELD, INFER, ONE, Held, Here, ask, eventually, here, request, served
from tests.support.training_runs import ROOT, environment
from workloads.serving.settings import ServingSettings
from workloads.serving.watch_config import AccuracyReading, AccuracyRecord, with_reading
from workloads.training.config import Digits
from workloads.training.data import held_out


def test_the_digits_are_read(digits: Path) -> None:
    """Trained here, exported, published, served in a process of its own: as JSON and as bytes alike."""
    unseen = held_out(Digits())
    images = unseen.x.numpy()[:32]
    with served(digits) as server:
        answer = ask(server.address, INFER.format("digits"), request(images))
        head = request(images)
        report = json.loads(head)
        report["inputs"][0] |= {"data": None, "parameters": {"binary_data_size": images.nbytes}}
        report["outputs"] = [{"name": "logits", "parameters": {"binary_data": True}}]
        head = json.dumps(report).encode()
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
    ("method", "path", "status", "expected"),
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
def test_routes(free: Here, method: str, path: str, status: int, expected: object) -> None:
    answer = ask(free.address, path, b"" if method == "POST" else None)
    assert (answer.status, answer.json) == (status, expected)


def test_each_route_that_answers_get_answers_head(free: Here) -> None:
    paths = ask(free.address, "/openapi.json").json["paths"]
    gets = [path.format(name="held", version="1") for path, operations in paths.items() if "get" in operations]
    assert {"/ready", "/v2", "/v2/models/held/versions/1/ready"} <= {*gets}
    for path in gets:
        answer = ask(free.address, path, method="HEAD")
        assert (answer.status, answer.content) == (200, b""), path
        assert answer.headers["content-type"] == ask(free.address, path).headers["content-type"]
    assert all("head" not in operations for operations in paths.values()), "the document has each operation once"


def test_the_metadata_has_the_lineage(free: Here) -> None:
    report = ask(free.address, "/v2/models/held/versions/1").json
    assert report["lineage"] == {"of": "a test"}
    assert report["platform"] == "onnx"


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
    ("headers", "expected"),
    [
        ({"Inference-Header-Content-Length": "x"}, "inference-header-content-length: got 'x'; it is a number of bytes"),
        ({"Inference-Header-Content-Length": "-1"}, "inference-header-content-length: got '-1'; it is a number of"),
        ({"Inference-Header-Content-Length": "9999"}, "inference-header-content-length: got 9999; the body has"),
    ],
)
def test_a_wrong_header_is_reported(free: Here, headers: dict[str, str], expected: str) -> None:
    answer = ask(free.address, HELD, ONE, headers)
    assert answer.status == 400
    assert answer.json["error"].startswith(expected)


def test_a_model_that_fails_is_500_without_what_it_was_given(capfd: pytest.CaptureFixture[str]) -> None:
    runtime = Held()
    for _ in range(2):
        runtime.go.release()
    head = json.dumps({"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 2],
                                   "parameters": {"binary_data_size": 8}}]}).encode()  # fmt: skip
    with here(runtime) as server:
        size = {"Inference-Header-Content-Length": str(len(head))}
        failed = ask(server.address, HELD, head + np.array([FAILS, 7], np.float32).tobytes(), size)
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
        content = {what: server.figure(f"{name}_{what}") for what in (
            "timestamp_seconds", "every_seconds", "unknown", "asked", "change", "change_allowed"
        )}  # fmt: skip
        assert content == {
            "timestamp_seconds": 2000, "every_seconds": 900, "unknown": 1, "asked": 0.9, "change": -0.075,
            "change_allowed": 0.02,
        }  # fmt: skip
        asked = re.findall(r"\brackwright_server_accuracy\w*", (ROOT / "docs/alerts/servers.yaml").read_text())
        assert asked
        assert {*asked} <= {*re.findall(r"^\w+", ask(server.address, "/metrics").content.decode(), re.M)}


def test_without_a_monitor_there_is_no_figure(free: Here) -> None:
    assert "accuracy" not in ask(free.address, "/metrics").content.decode()
