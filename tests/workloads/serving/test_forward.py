"""Requests to vLLM over real HTTP: what passes, what our server adds, and that a client that leaves ends the work."""

import gzip
import json
import zlib
from functools import partial
from hashlib import sha256
from http.client import IncompleteRead
from pathlib import Path
from typing import Any

import pytest

from tests.support.chat_streams import Stream, events
from tests.support.model_servers import (
    DAILY,
    Answer,
    Here,
    ask,
    daily_key,
    eventually,
    here,
    leaving,
    paid_tokens,
)
from tests.workloads.serving.vllm_app import FINGERPRINT, KEY, USAGE, VllmApp
from workloads.serving import forward
from workloads.serving.answers import HttpError
from workloads.serving.event_filter import EventFilter
from workloads.serving.forward import text_fields
from workloads.serving.forwarded_request import estimate_tokens, prepare
from workloads.serving.forwarded_routes import ROUTES, Route
from workloads.serving.keys import Key, Keys
from workloads.serving.upstream import ABORT

CHAT, TEXT = "/v1/chat/completions", "/v1/completions"


def route_of(path: str) -> Route:
    return next(route for route in ROUTES if route.path == path)


CHAT_ROUTE = route_of(CHAT)


packed = partial(gzip.compress, mtime=0)
"""gzip without the time, which would be in the names of tests, and differ between the processes that run them."""


def asking(content: str = "Hello", **more: object) -> bytes:
    return json.dumps({"model": "held", "messages": [{"role": "user", "content": content}], **more}).encode()


@pytest.fixture
def vllm(tmp_path: Path):
    with VllmApp(tmp_path / "socket").running() as app:
        yield app


@pytest.fixture
def server(vllm: VllmApp):
    with here(vllm, body_bytes=4096, parallel=2, queue=1) as server:
        yield server


def test_a_request_passes_as_it_is(vllm: VllmApp, server) -> None:
    sent = b' {"messages": [{"content": "Hello"}],  "unknown": [1e400, "\\ud800"], "n": 1, "n": 2}\n'
    answer = ask(server.address, CHAT, sent, {"traceparent": "00-1", "x-data-parallel-rank": "3", "cookie": "a=b"})
    [(path, headers, body)] = vllm.requests

    assert (path, body) == (CHAT, sent)
    assert answer.json["usage"] == USAGE
    assert headers.keys() == {
        "host",
        "authorization",
        "traceparent",
        "x-request-id",
        "content-length",
        "accept",
        "connection",
    }
    assert (headers["authorization"], headers["traceparent"]) == (f"Bearer {KEY}", "00-1")


def test_a_client_on_this_host_chooses_no_address_for_the_log(server) -> None:
    ask(server.address, CHAT, asking(), {"x-forwarded-for": "203.0.113.66"})
    assert [line["client"] for line in server.requests] == ["127.0.0.1"]


@pytest.mark.parametrize("options", [None, {}, {"include_usage": False}, {"include_usage": True}])
def test_a_stream_is_what_vllm_sends_and_has_its_usage_if_the_client_asks(vllm, server, options) -> None:
    answer = ask(server.address, CHAT, asking(stream=True, stream_options=options))
    *chunks, done = events(answer)
    eventually(lambda: server.requests)
    [line] = server.requests

    assert done == "data: [DONE]"
    assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert answer.headers["x-accel-buffering"] == "no"
    texts = [choice["delta"]["content"] for event in chunks for choice in event["choices"]]
    assert texts == ["", "one", " two", " three", ""]
    usage = [event.get("usage") for event in chunks if "usage" in event]
    assert usage == ([USAGE] if options == {"include_usage": True} else [])
    assert chunks[-1]["system_fingerprint"] == FINGERPRINT
    assert vllm.bodies[0]["stream_options"] == {"include_usage": True}
    assert (line["prompt_tokens"], line["tokens"], line["finish"]) == (7, 3, "stop")
    assert 0 <= line["first_token_seconds"] <= line["seconds"]


def test_each_route_that_a_client_needs_is_there_and_no_other(vllm: VllmApp, server) -> None:
    for route in ROUTES:
        assert ask(server.address, route.path, asking()).status == 200, route.path
    assert [path for path, _, _ in vllm.requests] == [route.path for route in ROUTES]
    for path in ("/invocations", ABORT, "/v1/load_lora_adapter", "/v1/responses/a/cancel", "/v1/files", "/sleep"):
        answer = ask(server.address, path, asking())
        assert (answer.status, len(vllm.requests)) == (404, len(ROUTES)), path


def test_the_models_are_those_of_vllm_without_their_paths(server) -> None:
    models = ask(server.address, "/v1/models").json["data"]
    assert [(model["id"], model["root"]) for model in models] == [("held", "held"), ("adapted", "adapted")]
    assert ask(server.address, "/v1/models/adapted").json == models[1]
    missing = ask(server.address, "/v1/models/other")
    assert (missing.status, missing.json["error"]["code"]) == (404, "model_not_found")
    assert missing.json["error"]["message"] == "no model other here; this server has held, adapted"


def test_errors_of_vllm_pass_and_the_log_has_nothing_of_the_prompt(server) -> None:
    for prompt, status in (("wrong", 400), ("failing", 500)):
        answer = ask(server.address, CHAT, asking(prompt))
        assert (answer.status, answer.json["error"]["code"]) == (status, status)
        assert "hunter2" in answer.json["error"]["message"], "the client reads what vLLM says"
    assert [line["reason"] for line in server.requests] == ["malformed", "vLLM answered 500"]
    assert "hunter2" not in json.dumps(server.log)


def test_usage_is_counted_whatever_the_protocol_calls_it(server) -> None:
    ask(server.address, "/v1/messages", asking())
    [line] = server.requests
    assert (line["prompt_tokens"], line["tokens"]) == (5, 2)


def leave(server: Here, vllm: VllmApp, path: str, stream: bool) -> None:
    """Ask for a text without an end, leave once vLLM has the request, and wait until the server has noted it."""
    with leaving(server.address, path, asking("for ever", stream=stream)) as client:
        eventually(lambda: vllm.requests)
        if stream:
            client.getresponse()
    eventually(lambda: server.requests)


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_leaves_ends_the_work_frees_its_slot_and_pays(vllm: VllmApp, stream: bool) -> None:
    with here(vllm, Keys([daily_key(10)])) as server:
        leave(server, vllm, CHAT, stream)
        [line] = server.requests[:1]
        assert ask(server.address, CHAT, asking(), DAILY).status == 429
        assert paid_tokens(server) == (7, 3)

    assert [path for path, _, _ in vllm.requests] == [CHAT, ABORT]
    assert (line["status"], line["finish"]) == (200 if stream else 499, "left")
    assert (line["prompt_tokens"], line["tokens"]) == (7, 3), "as vLLM has counted them"


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(("path", "id"), [("/v1/messages", "chatcmpl-{}"), ("/v1/responses", "{}_0")])
def test_a_client_that_leaves_pays_in_each_protocol(vllm: VllmApp, path: str, id: str, stream: bool) -> None:
    """Anthropic's protocol tells the tokens of an answer at the end of its stream, OpenAI's later one all of them."""
    with here(vllm, Keys([daily_key(10)])) as server:
        leave(server, vllm, path, stream)
        assert ask(server.address, path, asking(), DAILY).status == 429
        assert paid_tokens(server) == (7, 3)

    (_, headers, _), (aborted, _, ids) = vllm.requests
    assert (aborted, json.loads(ids)["request_ids"]) == (ABORT, [id.format(headers["x-request-id"])])


@pytest.mark.parametrize("path", ["/v1/messages", "/v1/responses"])
def test_a_client_that_leaves_pays_each_event_if_vllm_does_not_count_them(
    vllm: VllmApp, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    monkeypatch.setattr(forward, "GRACE_SECONDS", 0.1)
    monkeypatch.setattr(vllm.aborted, "set", lambda: None)
    with here(vllm, Keys([daily_key(10)])) as server:
        with leaving(server.address, path, asking("for ever", stream=True)) as client:
            response = client.getresponse()
            content = b""
            while content.count(b"more") < 20:
                content += response.read1(4096)
        assert vllm.left.acquire(timeout=60)
        eventually(lambda: server.requests)

    assert server.requests[0]["tokens"] >= 20


DEEP = b'{"tools": ' + b'{"a": ' * 250 + b"1" + b"}" * 250 + b', "usage": {"input_tokens": 5, "output_tokens": 2}}'


@pytest.mark.parametrize(("path", "answer", "tokens"), [
    ("/v1/responses", DEEP, -(-len(DEEP) // 4)), ("/v1/chat/completions", b"\x93NUMPY", 2),
    ("/v1/audio/transcriptions", b'{"text": "a", "usage": {"type": "duration", "seconds": 3}}', 15),
    ("/v1/embeddings", b"\x93NUMPY", 0), ("/pooling", b"{}", 0), ("/v1/messages", b'{"usage": {"input_tokens": 5}}', 8),
    ("/v1/messages", b'{"usage": {"output_tokens": 5}}', 5), ("/classify", b"[" * 5000, 0),
])  # fmt: skip
def test_an_answer_whose_tokens_cannot_be_read_is_not_free(path: str, answer: bytes, tokens: int) -> None:
    """A client chooses what an answer repeats, and its format: vLLM's count may not be readable, or absent."""
    assert text_fields(answer, route_of(path)).get("tokens", 0) == tokens


@pytest.mark.parametrize("path", ["/v1/embeddings", "/pooling", "/v1/audio/transcriptions", "/v1/responses"])
def test_a_prompt_that_vllm_has_not_counted_is_not_free(vllm: VllmApp, path: str) -> None:
    with here(vllm, Keys([daily_key(100)])) as server:
        assert ask(server.address, path, asking("uncounted", input="word " * 100), DAILY).status == 200
        eventually(lambda: server.requests)
        assert ask(server.address, path, asking(), DAILY).status == 429


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_leaves_pays_about_its_prompt_if_vllm_does_not_count_it(
    vllm: VllmApp, monkeypatch: pytest.MonkeyPatch, stream: bool
) -> None:
    monkeypatch.setattr(forward, "GRACE_SECONDS", 0.1)
    monkeypatch.setattr(vllm.aborted, "set", lambda: None)
    with here(vllm, Keys([daily_key(10)])) as server:
        with leaving(server.address, CHAT, asking("for ever", stream=stream)):
            eventually(lambda: vllm.requests)
        assert vllm.left.acquire(timeout=60)
        eventually(lambda: server.requests)

    assert server.requests[0]["prompt_tokens"] == estimate_tokens(["held", "user", "for ever"])


def test_the_estimate_of_a_prompt_has_its_texts_and_tokens_alone() -> None:
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 4000}}
    request = {"messages": [{"content": ["a" * 4000, image]}], "prompt": [1, 2, 3], "temperature": 0.5}
    assert 1003 <= estimate_tokens(request) <= 1010
    for name in ("content", "input", "text", "data", "prompt"):
        assert estimate_tokens({name: "data:" + "a" * 4000}) > 1000, "a prompt may begin as a picture does"


@pytest.mark.parametrize("stream", [1, 0, "true", "false", [], {}, 1.0])
@pytest.mark.parametrize("path", [CHAT, "/v1/completions"])
def test_a_stream_that_vllm_might_read_in_another_way_is_refused(
    vllm: VllmApp, server, path: str, stream: object
) -> None:
    """vLLM takes 1 and "true" as true, and would write no usage: the prompt was free."""
    answer = ask(server.address, path, asking(stream=stream))
    assert (answer.status, answer.json["error"]["param"]) == (400, "stream")
    assert not vllm.requests


def test_requests_beyond_slots_and_queue_are_refused(vllm: VllmApp, server) -> None:
    clients = [Stream(server, asking("for ever", stream=True)) for _ in range(3)]
    for client in clients[:2]:
        client.until(b'"one"')
    eventually(lambda: server.figure("rackwright_server_queue_requests") == 1)
    full = ask(server.address, CHAT, asking())
    tokens = ask(server.address, "/tokenize", asking())
    for client in clients:
        client.go()

    assert (full.status, full.json["error"]["type"]) == (429, "rate_limit_error")
    assert int(full.headers["retry-after"]) >= 1
    assert tokens.status == 200, "a request that needs no model needs no slot"


def test_no_first_token_in_time_is_a_400_that_no_client_repeats(vllm: VllmApp) -> None:
    with here(vllm, deadline_seconds=0.2) as server:
        answer = ask(server.address, CHAT, asking("late", stream=True))
        eventually(lambda: server.figure("rackwright_server_writing_requests") == 0)
    assert (answer.status, answer.json["error"]["code"]) == (400, "deadline_exceeded")


@pytest.mark.parametrize(("stream", "limit"), [(False, "answer_seconds"), (True, "stream_seconds")])
def test_at_the_time_limit_vllm_ends_the_text(vllm: VllmApp, stream: bool, limit: str) -> None:
    """The reason is `length`: OpenAI's protocol has no other one for a text that the server has ended."""
    with here(vllm, **{limit: 0.3}) as server:
        answer = ask(server.address, CHAT, asking("for ever", stream=stream))
        eventually(lambda: server.requests)
        [line] = server.requests
    choice = (events(answer)[-2] if stream else answer.json)["choices"][0]
    ids = json.loads(next(body for path, _, body in vllm.requests if path == ABORT))["request_ids"]
    upstream_id = next(headers["x-request-id"] for path, headers, _ in vllm.requests if path == CHAT)

    assert (answer.status, choice["finish_reason"], line["finish"]) == (200, "length", "length")
    assert ids == [f"chatcmpl-{upstream_id}"]


@pytest.mark.parametrize("stream", [False, True])
def test_a_text_that_vllm_does_not_end_is_broken_off(
    vllm: VllmApp, monkeypatch: pytest.MonkeyPatch, stream: bool
) -> None:
    monkeypatch.setattr(forward, "GRACE_SECONDS", 0.1)
    monkeypatch.setattr(vllm.aborted, "set", lambda: None)
    with here(vllm, answer_seconds=0.1, stream_seconds=0.1) as server:
        if stream:
            with pytest.raises(IncompleteRead) as broken:
                ask(server.address, CHAT, asking("for ever", stream=True))
            assert b'"code":"time_limit_exceeded"' in broken.value.partial
            assert b"[DONE]" not in broken.value.partial
        else:
            answer = ask(server.address, CHAT, asking("for ever"))
            assert (answer.status, answer.json["error"]["code"]) == (400, "time_limit_exceeded")
        assert vllm.left.acquire(timeout=60)
        eventually(lambda: server.requests)
    assert server.requests[0]["reason"] == ("time limit" if stream else "time_limit_exceeded")


def test_half_a_stream_is_no_answer(vllm: VllmApp, server) -> None:
    client = Stream(server, asking("half", stream=True))
    client.until(b'"one"')
    vllm.end_texts()
    rest = client.rest()
    client.go()
    eventually(lambda: server.requests)

    assert b'"message":"vLLM ended the stream"' in rest
    assert not rest.endswith(b"0\r\n\r\n"), "the transfer is not complete"
    assert b"[DONE]" not in rest
    assert server.requests[0]["reason"] == "failed"


def test_without_vllm_the_answer_is_502(tmp_path: Path) -> None:
    with here(VllmApp(tmp_path / "none")) as server:
        answers = [ask(server.address, CHAT, asking()), ask(server.address, "/v1/models")]
    assert [answer.status for answer in answers] == [502, 502]
    assert answers[0].json["error"]["type"] == "server_error"


def test_a_stop_lets_streams_end(vllm: VllmApp) -> None:
    with here(vllm) as server:
        stream = Stream(server, asking("for ever", stream=True))
        stream.until(b'"one"')
        server.terminate()
        eventually(lambda: server.server.should_exit)
        vllm.end_texts()
        stream.until(b"[DONE]")
        eventually(server.ended)
        stream.go()


def key(name: str, **quotas: int) -> Key:
    return Key(name=name, sha256=sha256(name.encode()).hexdigest(), scopes=("infer", "read"), **quotas)


def test_the_cache_of_another_prompt_needs_a_scope(vllm: VllmApp) -> None:
    router = key("router").model_copy(update={"scopes": ("infer", "exchange")})
    peers = [{"address": "10.141.0.23"}]
    transfer = {"role": "decode", "address": "10.141.0.21", "peers": peers}
    named = {"do_remote_prefill": True, "remote_host": "10.141.0.23", "remote_port": 5600, "remote_block_ids": [7]}
    with here(vllm, Keys([router, key("user")]), vllm={"kv_transfer": transfer}) as server:
        plain, naming, led = (
            ask(server.address, CHAT, asking(**more), {"authorization": f"Bearer {name}"})
            for name, more in (
                ("user", {}), ("user", {"kv_transfer_params": named}), ("router", {"kv_transfer_params": named})
            )
        )  # fmt: skip
    assert (plain.status, naming.status, led.status) == (200, 403, 200)
    assert naming.json["error"]["type"] == "permission_error"
    assert [line["reason"] for line in server.requests if line["status"] == 403] == ["scope"]


def test_a_key_has_quotas_and_its_own_metrics(vllm: VllmApp) -> None:
    keys = Keys([key("rate", requests_per_minute=2), key("tokens", tokens_per_minute=11), key("day", tokens_per_day=1)])
    with here(vllm, keys) as server:

        def answer(name: str, header: str = "authorization") -> Answer:
            value = f"Bearer {name}" if header == "authorization" else name
            return ask(server.address, CHAT, asking(), {header: value})

        found = {name: [answer(name) for _ in range(3)] for name in ("rate", "tokens", "day")}
        assert answer("unknown").status == 401
        assert ask(server.address, "/v1/models", None, {"authorization": "Bearer day"}).status == 200, "reading is free"
        by_anthropic = answer("rate", "x-api-key")
        figures = ask(server.address, "/metrics", None, {"authorization": "Bearer rate"})

    statuses = {name: [each.status for each in answers] for name, answers in found.items()}
    assert statuses == {"rate": [200, 200, 429], "tokens": [200, 200, 429], "day": [200, 429, 429]}
    assert by_anthropic.status == 429
    assert figures.status == 403
    first, _, refused = found["rate"]
    assert first.headers["x-ratelimit-limit-requests"] == "2"
    assert first.headers["x-ratelimit-remaining-requests"] == "1"
    assert 1 <= int(refused.headers["retry-after"]) <= 60
    assert refused.json["error"]["code"] == "rate_limit_exceeded"
    assert found["tokens"][1].headers["x-ratelimit-remaining-tokens"] == "1", "10 of 11 tokens are used"
    day = found["day"][1]
    assert (day.json["error"]["code"], day.headers["x-should-retry"]) == ("insufficient_quota", "false")
    assert "x-ratelimit-limit-tokens" not in day.headers
    assert [line["reason"] for line in server.requests if line["status"] == 429] == ["quota"] * 5


@pytest.mark.parametrize(
    ("encoding", "encoded", "status"),
    [
        ("gzip", packed(asking()), 200),
        ("gzip", packed(asking()[:9]) + packed(b"") + packed(asking()[9:]), 200),
        ("gzip", packed(asking()) + packed(b"") * 16, 400),
        ("gzip", packed(asking()) + packed(b" " * 2048) * 2, 413),
        ("deflate", zlib.compress(asking()) * 2, 400),
        ("deflate", zlib.compress(asking()), 200),
        ("deflate", zlib.compress(asking(), wbits=-15), 200),
        ("identity", asking(), 200),
        ("br", asking(), 415),
        ("gzip, gzip", packed(packed(asking())), 415),
        ("gzip", asking(), 400),
        ("gzip", packed(asking())[:-1], 400),
        ("gzip", packed(asking()) + b"more", 400),
        ("gzip", packed(asking() + b" " * 4096), 413),
    ],
)
def test_an_encoded_body_is_decoded_within_the_limit(
    vllm: VllmApp, server, encoding: str, encoded: bytes, status: int
) -> None:
    answer = ask(server.address, CHAT, encoded, {"content-encoding": encoding})
    assert answer.status == status
    assert [body for _, _, body in vllm.requests] == ([asking()] if status == 200 else [])
    if status == 415:
        assert answer.headers["accept-encoding"] == "identity, gzip, deflate"


@pytest.mark.parametrize(
    ("body", "prompts"),
    [
        ({"prompt": "a"}, 1), ({"prompt": ["a", "b"]}, 2), ({"prompt": [1, 2, 3]}, 1), ({"prompt": [[1], [2]]}, 2),
        ({"messages": []}, 1), ({"messages": [{"role": "user"}, {"role": "assistant"}]}, 1),
        ({"messages": [[{"role": "user"}], [{"role": "user"}], []]}, 3),
    ],
)  # fmt: skip
def test_each_prompt_of_a_request_has_an_id(body: dict[str, Any], prompts: int) -> None:
    numbers = range(prompts)
    content = json.dumps(body).encode()
    assert prepare(content, route_of("/v1/completions"), "7f").ids == tuple(f"cmpl-7f-{each}" for each in numbers)
    batch = route_of("/v1/chat/completions/batch")
    assert prepare(content, batch, "7f").ids == tuple(f"chatcmpl-7f_{each}" for each in numbers)
    assert prepare(content, CHAT_ROUTE, "7f").ids == ("chatcmpl-7f",)
    assert prepare(content, route_of("/v1/embeddings"), "7f").ids == ()


def test_a_response_has_the_id_of_the_server_and_none_of_the_client() -> None:
    prepared = prepare(b'{"request_id": "resp_other", "input": "a" } \n', route_of("/v1/responses"), "7f")
    assert (json.loads(prepared.body)["request_id"], prepared.ids) == ("7f", ("7f_0",))
    assert prepare(b"{ }", route_of("/v1/responses"), "7f").body == b'{"request_id": "7f"}'


@pytest.mark.parametrize(
    "body",
    [
        b"", b"{", b"[]", b"1", b"--x", b'{"kv_transfer_params": {}', '{"stream": true}'.encode("utf-16"),
        '{"stream": true}'.encode("utf-32"), b'\xef\xbb\xbf{"stream": true}', b'{"a": [' + b"[]," * 70_000 + b"1]}",
        b'{"a": ' + b"[" * 3000 + b"]" * 3000 + b"}", b'{"a": ' + b"9" * 5000 + b"}",
    ],
)  # fmt: skip
def test_a_body_that_vllm_might_read_in_another_way_is_refused(body: bytes) -> None:
    """Python's own parser takes UTF-16 and a mark of UTF-8."""
    for route in (each for each in ROUTES if each.computes and not (each.takes_forms and body == b"--x")):
        with pytest.raises(HttpError) as refused:
            prepare(body, route, "7f")
        assert refused.value.status == 400, route.path


@pytest.mark.parametrize("body", [b'{"stream": "yes"}', b'{"stream": true, "stream_options": 1}'])
def test_options_of_a_stream_that_vllm_might_read_in_another_way_are_refused(body: bytes) -> None:
    with pytest.raises(HttpError, match="stream"):
        prepare(body, CHAT_ROUTE, "7f")


@pytest.mark.parametrize("options", ['{"a":"\\ud800"}', '{"\\ud800":1}', '{"a":' + "[" * 500 + "]" * 500 + "}"])
def test_options_of_a_stream_pass_whatever_they_have(options: str) -> None:
    body = f'{{"stream": true, "stream_options": {options}}}'
    assert json.loads(prepare(body.encode(), CHAT_ROUTE, "7f").body)["stream_options"] == {
        **json.loads(options),
        "include_usage": True,
    }


def test_events_are_the_same_wherever_the_parts_of_a_stream_end() -> None:
    stream = b"".join(
        b"data: " + json.dumps(event, separators=(",", ":")).encode() + b"\n\n"
        for event in (
            {"choices": [{"delta": {"content": 'say "usage":{} and \n\n'}, "finish_reason": None}]},
            {"choices": [{"delta": {}, "finish_reason": "stop"}]},
            {"choices": [], "system_fingerprint": "f", "usage": USAGE},
        )
    )
    whole = b"".join([(reader := EventFilter(hides_usage=True)).feed(stream + b"data: [DONE]\n\n"), reader.end()])
    for size in range(1, len(stream)):
        reader = EventFilter(hides_usage=True)
        content = stream + b"data: [DONE]\n\n"
        parts = [reader.feed(content[at : at + size]) for at in range(0, len(content), size)]
        assert b"".join([*parts, reader.end()]) == whole
        assert (reader.total, reader.finish) == ({"prompt_tokens": 7, "tokens": 3}, "stop")
    assert whole.count(b"data:") == 3
    assert whole.endswith(b'"finish_reason":"stop"}],"system_fingerprint":"f"}\n\ndata: [DONE]\n\n')
