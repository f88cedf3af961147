"""KServe's protocol over gRPC: the real client of Triton, the same answers and the same refusals as over HTTP."""

import json
import re
import resource
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from hashlib import sha256
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from google.protobuf.message import DecodeError
from hypothesis import given
from hypothesis import strategies as st

from tests.support.model_servers import FAILS, HELD, ONE, Held, Here, Writer, ask, eventually, grpc_address, here
from tests.support.training_runs import ROOT
from tests.workloads.serving.test_settings import certificate
from workloads.errors import UserError
from workloads.serving import grpc_front, grpc_scan, serve, wire
from workloads.serving.grpc_messages import CLASSES, MESSAGES, METHODS, PACKAGE, SERVICE
from workloads.serving.grpc_scan import check_message
from workloads.serving.keys import Key, Keys
from workloads.serving.model import Model, Tensor
from workloads.serving.settings import ServingSettings

client = pytest.importorskip("tritonclient.grpc")
service = pytest.importorskip("tritonclient.grpc.service_pb2")
KEY = "k" * 32


@pytest.fixture
def free() -> Iterator[Here]:
    """Return a server with gRPC whose model computes as fast as it is asked."""
    runtime = Held()
    for _ in range(10_000):
        runtime.go.release()
    with here(runtime, grpc_port=0, body_bytes=4096, max_batch=4) as server:
        yield server


def call(server: Here, method: str, message: Any, **options: Any) -> Any:
    """Call *method* with a message, or with bytes that are none."""
    with grpc.insecure_channel(grpc_address(server), options=options.pop("channel", ())) as channel:
        stub = channel.unary_unary(
            f"/{PACKAGE}.{SERVICE}/{method}", response_deserializer=CLASSES[f"{method}Response"].FromString
        )
        content = message if isinstance(message, bytes) else message.SerializeToString()
        return stub(content, timeout=60, **options)


def refusal(act: Callable[[], Any]) -> tuple[str, str]:
    with pytest.raises(grpc.RpcError) as caught:
        act()
    return caught.value.code().name, caught.value.details()


def inputs(array: np.ndarray, datatype: str = "FP32", name: str = "x") -> Any:
    tensor = client.InferInput(name, list(array.shape), datatype)
    tensor.set_data_from_numpy(array)
    return tensor


def infer(**fields: Any) -> Any:
    return CLASSES["ModelInferRequest"](**{"model_name": "held", **fields})


def test_the_messages_are_those_of_tritons_client() -> None:
    """
    Each field of each message has the number, type and label that the client's own code has.
    """
    compared = 0
    for name in MESSAGES:
        theirs: Any = service
        for part in name.split("."):
            theirs = getattr(theirs, part)
        known = {field.name: field for field in theirs.DESCRIPTOR.fields}
        for field in CLASSES[name].DESCRIPTOR.fields:
            other = known[field.name]
            assert (field.number, field.type, field.is_repeated) == (other.number, other.type, other.is_repeated), field
            inner = field.message_type and field.message_type.full_name
            assert inner == (other.message_type and other.message_type.full_name)
            compared += 1
    assert compared >= 50
    assert {method.name for method in service.DESCRIPTOR.services_by_name[SERVICE].methods} >= {*METHODS}


def test_tritons_client_gets_the_answers_of_http(free: Here) -> None:
    triton = client.InferenceServerClient(grpc_address(free))
    assert triton.is_server_live() and triton.is_server_ready()
    assert triton.is_model_ready("held") and triton.is_model_ready("held", "1")
    assert not triton.is_model_ready("other") and not triton.is_model_ready("held", "2")
    about = triton.get_model_metadata("held", as_json=True)
    assert about["inputs"] == [{"name": "x", "datatype": "FP32", "shape": ["-1", "2"]}]
    assert triton.get_server_metadata().extensions == ["binary_tensor_data", "model_lineage"]
    x = np.arange(6, dtype=np.float32).reshape(3, 2)
    for version, outputs in (("", None), ("1", [client.InferRequestedOutput("y")])):
        found = triton.infer("held", [inputs(x)], version, outputs, request_id="seven")
        assert (found.as_numpy("y") == 2 * x).all()
        assert (found.get_response().id, found.get_response().model_version) == ("seven", "1")
    compressed = triton.infer("held", [inputs(x)], compression_algorithm="gzip")
    assert (compressed.as_numpy("y") == 2 * x).all()
    over_http = ask(free.address, HELD, json.dumps({"inputs": [
        {"name": "x", "datatype": "FP32", "shape": [3, 2], "data": x.ravel().tolist()}]}).encode())  # fmt: skip
    assert over_http.json["outputs"][0]["data"] == (2 * x).ravel().tolist()
    paths = [line["path"] for line in free.requests]
    assert paths.count("/v2/models/held/infer") == 3 and "/v2/models/held/versions/1/infer" in paths


def test_values_in_their_fields_are_those_in_bytes(free: Here) -> None:
    tensor = {"name": "x", "datatype": "FP32", "shape": [1, 2], "contents": {"fp32_contents": [1.5, -2]}}
    found = call(free, "ModelInfer", infer(inputs=[tensor]))
    assert np.frombuffer(found.raw_output_contents[0], np.float32).tolist() == [3, -4]


ROW: dict[str, Any] = {"name": "x", "datatype": "FP32", "shape": [1, 2]}
BYTES, FAILING, INFINITE = (np.full((1, 2), value, np.float32).tobytes() for value in (0, FAILS, np.inf))


@pytest.mark.parametrize(
    ("fields", "code", "reason"),
    [
        ({"model_name": "other"}, "NOT_FOUND", "no model other here"),
        ({"model_name": ""}, "NOT_FOUND", "no such model here"),
        ({"model_name": "a/b"}, "NOT_FOUND", "no such model here"),
        ({"model_version": "2"}, "NOT_FOUND", "no version 2 of held here"),
        ({}, "INVALID_ARGUMENT", "inputs: List should have at least 1 item"),
        ({"inputs": [ROW]}, "INVALID_ARGUMENT", "inputs.x: got 0 bytes"),
        ({"inputs": [ROW], "raw_input_contents": [BYTES, BYTES]}, "INVALID_ARGUMENT", "it has one tensor for each"),
        ({"inputs": [ROW], "raw_input_contents": [BYTES[:-1]]}, "INVALID_ARGUMENT", "got 7 bytes"),
        ({"inputs": [{**ROW, "name": "z"}], "raw_input_contents": [BYTES]}, "INVALID_ARGUMENT", "held takes x"),
        ({"inputs": [{**ROW, "shape": [-1, 2]}], "raw_input_contents": [BYTES]}, "INVALID_ARGUMENT", "greater than"),
        ({"inputs": [{**ROW, "shape": [1, 2**62]}], "raw_input_contents": [b""]}, "INVALID_ARGUMENT", "more values"),
        ({"inputs": [{**ROW, "datatype": "FP64"}], "raw_input_contents": [BYTES]}, "INVALID_ARGUMENT", "it is FP32"),
        ({"inputs": [{**ROW, "datatype": "x" * 99}], "raw_input_contents": [BYTES]}, "INVALID_ARGUMENT", "datatype"),
        ({"inputs": [{**ROW, "contents": {"int_contents": [1, 2]}}]}, "INVALID_ARGUMENT", "FP32 has fp32_contents"),
        (
            {"inputs": [{**ROW, "shape": [9, 2], "contents": {"fp32_contents": [0.0] * 18}}]},
            "INVALID_ARGUMENT", "got 9 rows",
        ),
        (
            {"inputs": [ROW], "raw_input_contents": [BYTES], "outputs": [{"name": "z"}]},
            "INVALID_ARGUMENT", "held gives y",
        ),
        ({"inputs": [ROW], "raw_input_contents": [INFINITE]}, "INVALID_ARGUMENT", "a number is infinite, or none"),
        (
            {"inputs": [{**ROW, "contents": {"fp32_contents": [0.0, float("nan")]}}]},
            "INVALID_ARGUMENT", "a number is infinite, or none",
        ),
        ({"inputs": [ROW], "raw_input_contents": [FAILING]}, "INTERNAL", "failed with RuntimeError; see its log"),
        (
            {"inputs": [ROW], "raw_input_contents": [BYTES], "outputs": [
                {"name": "y", "parameters": {"classification": {"int64_param": 1}}}]},
            "INVALID_ARGUMENT", "does not have this extension",
        ),
        (
            {"inputs": [ROW], "raw_input_contents": [BYTES], "parameters": {"timeout": {"int64_param": -1}}},
            "INVALID_ARGUMENT", "parameters.timeout: got -1",
        ),
        ({"inputs": [ROW], "raw_input_contents": [bytes(5000)]}, "RESOURCE_EXHAUSTED", "larger than 4096 bytes"),
        ({"inputs": [ROW], "raw_input_contents": [bytes(1 << 20)]}, "RESOURCE_EXHAUSTED", "message larger than max"),
    ],
)  # fmt: skip
def test_a_wrong_request_has_the_reason_of_http(free: Here, fields: dict[str, Any], code: str, reason: str) -> None:
    found = refusal(lambda: call(free, "ModelInfer", infer(**fields)))
    assert found[0] == code and reason in found[1], found
    assert call(free, "ServerLive", CLASSES["ServerLiveRequest"]()).live


def test_bytes_that_are_no_message_are_refused(free: Here) -> None:
    assert refusal(lambda: call(free, "ModelInfer", b"\xff" * 64)) == (
        "INVALID_ARGUMENT", "the message is no ModelInferRequest",
    )  # fmt: skip


def test_a_compressed_message_has_the_same_limit(free: Here) -> None:
    """
    64 MiB of zeros are 64 KiB on the wire.
    """
    bomb = infer(inputs=[ROW], raw_input_contents=[bytes(64 << 20)])
    code, _ = refusal(lambda: call(free, "ModelInfer", bomb, compression=grpc.Compression.Gzip))
    assert code == "RESOURCE_EXHAUSTED"


def test_a_method_that_the_server_does_not_have_is_unimplemented(free: Here) -> None:
    triton = client.InferenceServerClient(grpc_address(free))
    with pytest.raises(Exception, match="UNIMPLEMENTED"):
        triton.get_model_config("held")
    with (
        grpc.insecure_channel(grpc_address(free)) as channel,
        pytest.raises(grpc.RpcError, match="UNIMPLEMENTED"),
    ):
        channel.unary_unary("/grpc.health.v1.Health/Check")(b"")


def test_calls_need_the_keys_of_http_and_use_their_quotas() -> None:
    runtime = Held()
    for _ in range(9):
        runtime.go.release()
    with here(runtime, app_key(requests_per_minute=2), grpc_port=0) as server:
        triton = client.InferenceServerClient(grpc_address(server))
        x = np.zeros((1, 2), np.float32)

        def code(token: str) -> str:
            headers = {"authorization": f"Bearer {token}"} if token else {}
            try:
                triton.infer("held", [inputs(x)], headers=headers)
            except Exception as error:
                return str(error.status())  # type: ignore[attr-defined]
            return "OK"

        assert triton.is_server_live(), "a load balancer has no key"
        found = [code(token) for token in ("", "wrong", KEY, KEY, KEY)]
        names = ["UNAUTHENTICATED", "UNAUTHENTICATED", "OK", "OK", "RESOURCE_EXHAUSTED"]
        assert found == [name if name == "OK" else f"StatusCode.{name}" for name in names]
        with pytest.raises(Exception, match="does not allow read"):
            triton.get_model_metadata("held", headers={"authorization": f"Bearer {KEY}"})
        eventually(lambda: len(server.requests) == 7)
    assert [line.get("key") for line in server.requests][2:6] == [None, "app", "app", "app"]
    assert KEY not in json.dumps(server.log)
    assert {line["client"] for line in server.requests} == {"127.0.0.1"}


def app_key(**quotas: Any) -> Keys:
    return Keys([Key(name="app", sha256=sha256(KEY.encode()).hexdigest(), scopes=("infer",), **quotas)])


def unsent(channel: Any, method: str = "ModelInfer", token: str = "") -> Any:
    """Return a call whose message never comes."""
    never = threading.Event()
    metadata = [("authorization", f"Bearer {token}")] if token else []
    stub = channel.stream_unary(f"/{PACKAGE}.{SERVICE}/{method}")
    return stub.future(iter(lambda: never.wait(60), True), timeout=50, metadata=metadata)


def test_the_key_is_checked_before_the_message_is_read() -> None:
    """
    Callers without a key held all slots for messages, each for body_seconds, and had their messages parsed.
    """
    runtime = Held()
    runtime.go.release()
    with here(runtime, app_key(requests_per_minute=1), grpc_port=0, body_seconds=600) as server:
        with grpc.insecure_channel(grpc_address(server)) as channel:
            calls = [unsent(channel, method) for method in ("ModelInfer", "ModelMetadata", "ModelReady") * 20]
            assert {call.exception().code().name for call in calls} == {"UNAUTHENTICATED"}
            wrong_scope = unsent(channel, "ServerMetadata", KEY).exception()
            assert wrong_scope.code().name == "PERMISSION_DENIED"
            assert unsent(channel, "ServerReady").exception() is None, "a health check has no key and no fields"
            message = infer(inputs=[ROW], raw_input_contents=[BYTES])
            assert call(server, "ModelInfer", message, metadata=[("authorization", f"Bearer {KEY}")]).id == ""
            used_up = unsent(channel, "ModelInfer", KEY).exception()
        assert used_up.code().name == "RESOURCE_EXHAUSTED" and "1 requests per minute" in used_up.details()
    assert [line["status"] for line in server.requests] == [401] * 60 + [403, 200, 200, 429]
    assert {line["path"] for line in server.requests[:60]} == {"/v2/models"}


def nested(*numbers: int) -> bytes:
    """Return an empty field below fields, by their numbers."""
    content = b""
    for number in reversed(numbers):
        content = bytes((number << 3 | 2, len(content))) + content
    return content


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (nested(5) * 257, "inputs: got more than 256"),
        (nested(6) * 257, "outputs: got more than 256"),
        (nested(7) * 257, "raw_input_contents: got more than 256"),
        (nested(4) * 65537, "more than 65536 fields"),
        (nested(5, 4, 2) * 256 + nested(4) * 65000, "more than 65536 fields"),
        (b"\x2a\x84\x80\x08" + nested(4) * 65536 + b"\x20\x00\x20\x00", "more than 65536 fields"),
        (b"\x2a\x84\x80\x04" + b"\x1a\x80\x80\x04" + bytes(65536), "more than 65536 fields"),
        (b"\x08\x00" * 65537, "more than 65536 fields"),
    ],
)
def test_fields_are_counted_before_a_message_is_parsed(content: bytes, reason: str, monkeypatch: Any) -> None:
    monkeypatch.setattr(grpc_front, "CLASSES", {})
    with pytest.raises(wire.MalformedRequest, match=reason):
        grpc_front.parse("ModelInfer", content)


def test_values_are_counted_before_a_message_is_parsed(monkeypatch: Any) -> None:
    def message(**contents: Any) -> bytes:
        content: bytes = infer(inputs=[{**ROW, "contents": contents}]).SerializeToString()
        return content

    many = grpc_scan.MAX_VALUES + 1
    too_many = [message(bool_contents=[True] * many), message(fp64_contents=np.zeros(many))]
    check_message("ModelInferRequest", message(int64_contents=[-1] * 1000, fp32_contents=[1.0] * 1000))
    monkeypatch.setattr(grpc_scan, "MAX_VALUES", 1999)
    with pytest.raises(wire.MalformedRequest, match="more than 1999 values"):
        check_message("ModelInferRequest", message(int64_contents=[-1] * 1000, fp32_contents=[1.0] * 1000))
    monkeypatch.undo()
    for content in too_many:
        with pytest.raises(wire.MalformedRequest, match="got more than"):
            check_message("ModelInferRequest", content)


@given(st.binary(max_size=200))
def test_bytes_that_the_scan_takes_for_a_message_are_one_or_none(content: bytes) -> None:
    """
    Whatever the parser takes has passed the scan.
    """
    try:
        CLASSES["ModelInferRequest"].FromString(content)
    except DecodeError:
        return
    try:
        check_message("ModelInferRequest", content)
    except DecodeError:
        assert any(byte & 7 in (3, 4) for byte in content), "groups alone are refused beside"


def test_a_full_queue_says_when_to_try_again() -> None:
    runtime = Held()
    with here(runtime, grpc_port=0, queue=1, deadline_seconds=60) as server:
        message = infer(inputs=[ROW], raw_input_contents=[BYTES])
        threads = [threading.Thread(target=call, args=(server, "ModelInfer", message)) for _ in range(2)]
        threads[0].start()
        runtime.began.acquire()
        threads[1].start()
        eventually(lambda: server.figure("rackwright_server_queue_requests") == 1)
        with pytest.raises(grpc.RpcError) as caught:
            call(server, "ModelInfer", message)
        assert caught.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
        assert dict(caught.value.trailing_metadata())["retry-after"].isdecimal()
        for _ in range(2):
            runtime.go.release()
        for thread in threads:
            thread.join()


def test_a_stop_lets_a_call_end_and_says_so_before() -> None:
    runtime = Held()
    found: list[Any] = []
    with here(runtime, grpc_port=0, drain_seconds=2) as server:
        message = infer(inputs=[ROW], raw_input_contents=[BYTES])
        thread = threading.Thread(target=lambda: found.append(call(server, "ModelInfer", message)))
        thread.start()
        runtime.began.acquire()
        server.terminate()
        assert not call(server, "ServerReady", CLASSES["ServerReadyRequest"]()).ready
        assert not call(server, "ModelReady", CLASSES["ModelReadyRequest"](name="held")).ready
        runtime.go.release()
        thread.join()
        eventually(server.ended)
    assert len(found[0].raw_output_contents) == 1


def test_a_language_model_has_no_grpc() -> None:
    with (
        pytest.raises(UserError, match="a language model, which has OpenAI's protocol over HTTP"),
        here(Writer(), grpc_port=0),
    ):
        pass


def test_both_ports_share_the_connections() -> None:
    """
    Connections to the port of gRPC had no limit.
    """
    with here(Held(), grpc_port=0, connections=6) as server, ExitStack() as stack:
        host, _, port = grpc_address(server).rpartition(":")

        def connect() -> bool:
            """Return whether gRPC begins to speak on a new connection, which then stays open."""
            connection = stack.enter_context(socket.create_connection((host, int(port)), timeout=60))
            try:
                return bool(connection.recv(1))
            except ConnectionResetError:
                return False

        assert [connect() for _ in range(6)] == [True] * 3 + [False] * 3
        assert ask(server.address, "/health").status == 200, "HTTP has its own half"
        stack.close()
        eventually(connect)


def test_the_server_may_open_a_file_for_each_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    The soft limit is 1024 by default, as many as there may be connections.
    """
    settings, changed = ServingSettings(), []
    monkeypatch.setattr(resource, "setrlimit", lambda kind, limits: changed.append(limits))
    for limits in ((1024, 524288), (-1, -1), (65536, 65536)):
        monkeypatch.setattr(resource, "getrlimit", lambda kind, limits=limits: limits)
        serve._allow_open_files(settings)
    assert changed == [(2560, 524288)]
    monkeypatch.setattr(resource, "getrlimit", lambda kind: (1024, 1024))
    with pytest.raises(UserError, match="this process may open 1024 files"):
        serve._allow_open_files(settings)
    unit = (ROOT / "templates/model_server/etc/systemd/system/server.service.j2").read_text()
    [limit] = re.findall("^LimitNOFILE=([0-9]+)$", unit, re.MULTILINE)
    assert int(limit) >= ServingSettings(connections=30_000).open_files


def test_integers_and_texts_are_checked_as_in_json() -> None:
    def content(datatype: str, **contents: Any) -> bytes:
        tensor = CLASSES["ModelInferRequest.InferInputTensor"](name="x", datatype=datatype, contents=contents)
        return grpc_front._content(tensor)

    assert content("INT8", int_contents=[-128, 127]) == b"\x80\x7f"
    assert content("BYTES", bytes_contents=[b"ab", b""]) == b"\2\0\0\0ab\0\0\0\0"
    assert content("FP16") == b"", "bytes alone"
    for datatype, contents in (("INT8", {"int_contents": [128]}), ("UINT16", {"uint_contents": [70000]})):
        with pytest.raises(wire.MalformedRequest, match=f"{datatype} goes from"):
            content(datatype, **contents)
    with pytest.raises(wire.MalformedRequest, match="got more than"):
        content("BOOL", bool_contents=[True] * (grpc_front.MAX_VALUES + 1))


def test_texts_come_back_as_bytes() -> None:
    tensor = Tensor(name="x", datatype="BYTES", shape=(-1, 1))
    model = Model(name="held", version="1", runtime="onnx", files={}, inputs=(tensor,),
                  outputs=(tensor.model_copy(update={"name": "y"}),))  # fmt: skip
    runtime = Held(model)
    runtime.infer = lambda arrays: {"y": arrays["x"] * 2}  # type: ignore[method-assign]
    with here(runtime, grpc_port=0) as server:
        triton = client.InferenceServerClient(grpc_address(server))
        found = triton.infer("held", [inputs(np.array([["ab"]], object), "BYTES")])
    assert found.as_numpy("y").tolist() == [[b"abab"]]


def test_both_ports_serve_over_tls(tmp_path: Path) -> None:
    pem, key = certificate(tmp_path, "server")
    with here(Held(), grpc_port=0, tls_certificate=str(pem), tls_key=str(key)) as server:
        place = grpc_address(server).removeprefix("grpcs://")
        secure = client.InferenceServerClient(place, ssl=True, root_certificates=str(pem))
        assert secure.is_server_live()
        plain = client.InferenceServerClient(place)
        with pytest.raises(Exception, match="UNAVAILABLE"):
            plain.is_server_live(client_timeout=5)


def test_the_status_of_http_stays_readable(free: Here) -> None:
    assert ask(free.address, HELD, ONE).status == 200
