"""OpenAI's routes over real HTTP: what they answer, whom they refuse, and that who leaves makes room."""

import json
from hashlib import sha256
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.chat_streams import CHAT, HELLO, ONCE, TEXT, body, events
from tests.support.model_servers import (
    Answer,
    Here,
    Writer,
    ask,
    eventually,
    here,
)
from workloads.serving.answers import HttpError
from workloads.serving.keys import Key, Keys
from workloads.serving.openai.body import read
from workloads.serving.openai.requests import ChatRequest, CompletionRequest, TextRequest
from workloads.serving.openai.schema import REPETITIONS


@pytest.fixture
def free():
    """Return a server whose model writes as fast as it is asked."""
    with here(Writer(free=True), body_bytes=4096) as server:
        yield server


def test_a_chat_is_answered_whole(free: Here) -> None:
    answer = ask(free.address, CHAT, body(HELLO))
    report = answer.json

    assert answer.status == 200
    assert report.pop("id").startswith("chatcmpl-")
    assert report.pop("created") > 1.7e9
    message = {"role": "assistant", "content": "one two three"}
    assert report == {
        "object": "chat.completion", "model": "held", "system_fingerprint": "1",
        "choices": [{"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10},
    }  # fmt: skip


def test_a_text_is_answered_whole(free: Here) -> None:
    report = ask(free.address, TEXT, body(ONCE)).json

    assert report["object"] == "text_completion"
    assert report["choices"] == [{"index": 0, "text": "one two three", "logprobs": None, "finish_reason": "stop"}]


@pytest.mark.parametrize("counts", [False, True])
def test_a_chat_is_streamed(free: Here, counts: bool) -> None:
    more = {"stream_options": {"include_usage": True}} if counts else {}
    answer = ask(free.address, CHAT, body(HELLO, stream=True, **more))
    *chunks, done = events(answer)
    usage = [event.pop("usage") for event in chunks if "usage" in event]
    last = chunks.pop() if counts else None

    assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert answer.headers["x-accel-buffering"] == "no"
    assert done == "data: [DONE]"
    assert [event["choices"][0]["delta"] for event in chunks] == [
        {"role": "assistant", "content": ""}, {"content": "one"}, {"content": " two"}, {"content": " three"}, {},
    ]  # fmt: skip
    assert [event["choices"][0]["finish_reason"] for event in chunks] == [None] * 4 + ["stop"]
    assert {event["object"] for event in chunks} == {"chat.completion.chunk"}
    assert len({event["id"] for event in chunks}) == 1
    if counts:
        assert last["choices"] == []
        assert usage == [None] * 5 + [{"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}]
    else:
        assert usage == []


def test_a_text_is_streamed(free: Here) -> None:
    *chunks, done = events(ask(free.address, TEXT, body(ONCE, stream=True)))

    assert done == "data: [DONE]"
    assert [event["choices"][0]["text"] for event in chunks] == ["one", " two", " three", ""]


def test_the_model_is_listed(free: Here) -> None:
    [one] = ask(free.address, "/v1/models").json["data"]
    assert (one["id"], one["object"]) == ("held", "model")
    assert ask(free.address, "/v1/models/held").json == one
    other = ask(free.address, "/v1/models/meta-llama/Llama-3.1-8B")
    assert (other.status, other.json["error"]["code"]) == (404, "model_not_found")
    assert [ask(free.address, path, method="HEAD").status for path in ("/v1/models", "/v1/models/held")] == [200, 200]
    assert ask(free.address, "/v2/models/held").json["lineage"] == {"of": "a test"}


def schema(value: Any) -> dict[str, Any]:
    return {"type": "json_schema", "json_schema": {"name": "answer", "schema": value, "strict": True}}


DEEP: Any = {}
SCHEMA = "response_format.json_schema.schema: the schema"
for _ in range(17):
    DEEP = {"items": DEEP}


def test_a_schema_has_a_largest_size() -> None:
    with pytest.raises(HttpError, match="the schema has more than 16384 bytes"):
        read(body(HELLO, response_format=schema({"const": "x" * 20_000})), ChatRequest, Writer().model)


def doubled(times: int) -> dict[str, Any]:
    """Return a schema of few values whose alternatives refer to alternatives, so that it has 2 ** *times* ways."""
    levels = {f"d{n}": {"anyOf": [{"$ref": f"#/$defs/d{n + 1}"}] * 2} for n in range(times)}
    return {"$ref": "#/$defs/d0", "$defs": {**levels, f"d{times}": {"type": "string"}}}


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ({"pattern": "^(a?|a?){300}$"}, "the schema has the keyword pattern"),
        ({"properties": {"x": {"anyOf": [True, {"pattern": ""}]}}}, "the schema has the keyword pattern"),
        ({"const": {"pattern": "a"}, "$ref": "#/const"}, "the schema has the keyword pattern"),
        (doubled(9), "more than 512 values, with the parts of its references"),
        (
            {"anyOf": [{"items": {"$ref": "#"}}, {"type": "array", "items": {"$ref": "#"}}]},
            "or refers to itself|values",
        ),
        ({"$ref": "#"}, "more than 512 values"),
        *[
            ({"$ref": each, "$defs": {"a~1": {}, "b": [{}]}}, "has no part")
            for each in (
                "https://example.org/x",
                "#/$defs/a~1",
                "#/$defs/a~01~",
                "#/$defs/b/1",
                "#/$defs/b/-1",
                "b",
                "",
                "#/$defs/b/0/x",
            )
        ],
        ({"items": {"maxLength": 4000}, "maxItems": 97}, "more than 4096 together"),
        ({"properties": {"x": {"minItems": 4e3}, "y": {"minLength": 97}}}, "more than 4096 together"),
        *[
            ({"items": {keyword: number}}, "whole, and from 0 to 4096")
            for number in ((1 << 63) + 50_000, (1 << 64) + 5, -(1 << 63), 10**39, 1e300, -1, 1.5, 4097)
            for keyword in REPETITIONS
        ],
    ],
)
def test_a_schema_whose_grammar_has_no_bound_is_refused(value: Any, reason: str) -> None:
    """
    Before, one request with such a schema took the model for 46 s, and other clients got 429.
    """
    with pytest.raises(HttpError, match=reason):
        read(body(HELLO, response_format=schema(value)), ChatRequest, Writer().model)


def test_properties_may_have_the_names_of_keywords() -> None:
    named = {"properties": {name: {"type": "string"} for name in ("pattern", "maxLength")}, "maxItems": 4096}
    for value in (named, doubled(3), {"$ref": "#/$defs/b/0", "$defs": {"b": [{}]}}):
        assert read(body(HELLO, response_format=schema(value)), ChatRequest, Writer().model).response_format


def test_structured_output_and_log_probabilities_reach_the_runtime() -> None:
    runtime = Writer(free=True)
    with here(runtime) as server:
        for more in ({"response_format": schema({"type": "integer"})}, {"response_format": {"type": "json_object"}},
                     {"logprobs": True, "top_logprobs": 3}):  # fmt: skip
            assert ask(server.address, CHAT, body(HELLO, **more)).status == 200
        for alternatives in (2, 0):
            assert ask(server.address, TEXT, body(ONCE, logprobs=alternatives)).status == 200
    form, plain, chances, text, token = [
        {key: each[key] for key in each if key != "messages"} for each in runtime.asked
    ]
    wanted = {"name": "answer", "schema": {"type": "integer"}}
    assert form == {"response_format": {"type": "json_schema", "json_schema": wanted}}
    assert plain == {"response_format": {"type": "json_object"}}
    assert chances == {"logprobs": True, "top_logprobs": 3}
    assert text == {"prompt": "Once", "logprobs": 2, "max_tokens": 16}
    assert token == {"prompt": "Once", "logprobs": 1, "max_tokens": 16}, "that of each token alone"


def test_a_runtime_is_asked_what_the_request_says() -> None:
    runtime = Writer(free=True)
    parts = [{"type": "text", "text": "Be "}, {"type": "text", "text": "short."}]
    sampling = {"temperature": 1, "top_p": 0.5, "seed": 7, "frequency_penalty": -1, "presence_penalty": 2}
    with here(runtime) as server:
        report = body(
            HELLO, **sampling, messages=[{"role": "developer", "content": parts}, *HELLO["messages"]], stop="END",
            max_completion_tokens=5, user="somebody", n=1, tools=None,
        )  # fmt: skip
        assert ask(server.address, CHAT, report).status == 200
        once = body(ONCE, prompt=["Once"], max_tokens=5, stop=["a", "b"], seed=2**32 + 8)
        assert ask(server.address, TEXT, once).status == 200

    messages = [{"role": "system", "content": "Be short."}, {"role": "user", "content": "Hello"}]
    assert runtime.asked == [
        {**sampling, "stop": ["END"], "max_tokens": 5, "messages": messages},
        {"prompt": "Once", "max_tokens": 5, "stop": ["a", "b"], "seed": 9},
    ]


@pytest.mark.parametrize(
    ("path", "content", "status", "expected", "param", "code"),
    [
        (CHAT, b"{", 400, "the body: Invalid JSON: EOF while parsing an object at line 1 column 1", None, None),
        (CHAT, b"[]", 400, "the body: Input should be an object", None, None),
        (CHAT, body({"model": "held"}), 400, "messages: Field required", "messages", None),
        (CHAT, body(HELLO, messages=[]), 400, "messages: List should have at least 1 item", "messages", None),
        (CHAT, body(HELLO, messages=[{"role": "tool", "content": "x"}]), 400,
         "messages.0: a message of role tool, and no other one, has the tool_call_id", "messages", None),
        (CHAT, body(HELLO, messages=[{"role": "user", "content": [{"type": "image_url"}]}]), 400,
         "messages.0.content.0.type: Input should be 'text'", "messages", None),
        (CHAT, body(HELLO, tools=[{}]), 400, "tools.0.type: Field required; tools.0.function: Field required",
         "tools", None),
        (CHAT, body(HELLO, logit_bias={"1": 2}), 400, "logit_bias: llama.cpp has no such option here; leave it out, or "
         "send {}", "logit_bias", None),
        (CHAT, body(HELLO, top_logprobs=2), 400, "the body: top_logprobs needs logprobs: true", None, None),
        (CHAT, body(HELLO, logprobs=True, top_logprobs=21), 400, "top_logprobs: Input should be less", "top_logprobs",
         None),
        (TEXT, body(ONCE, logprobs=21), 400, "logprobs: Input should be less", "logprobs", None),
        (CHAT, body(HELLO, response_format={"type": "x"}), 400, "response_format: Input tag 'x'", "response_format",
         None),
        (CHAT, body(HELLO, response_format=schema(DEEP)), 400, f"{SCHEMA} is nested deeper than 16", "response_format",
         None),
        (CHAT, body(HELLO, response_format=schema({"enum": [*range(600)]})), 400, f"{SCHEMA} has more than 512 val",
         "response_format", None),
        (CHAT, body(HELLO, top_k=1), 400, "top_k: unknown field; the fields are model, ", "top_k", None),
        (CHAT, body(HELLO, stream_options={"x": 1}, stream=True), 400, "stream_options.x: unknown field",
         "stream_options", None),
        (CHAT, body(HELLO, stream_options={}), 400, "the body: stream_options needs stream", None, None),
        (CHAT, body(HELLO, max_tokens=1, max_completion_tokens=1), 400, "the body: max_tokens is", None,
         None),
        (CHAT, body(HELLO, temperature=2.1), 400, "temperature: Input should be less than", "temperature", None),
        (CHAT, body(HELLO, temperature="1"), 400, "temperature: Input should be a valid number", "temperature", None),
        (CHAT, body(HELLO, temperature=float("nan")), 400, "temperature: Input should be", "temperature", None),
        (CHAT, body(HELLO, top_p=-0.1), 400, "top_p: Input should be greater than", "top_p", None),
        (CHAT, body(HELLO, max_tokens=0), 400, "max_tokens: Input should be greater than 0", "max_tokens", None),
        (CHAT, body(HELLO, max_tokens=2**31), 400, "max_tokens: Input should be less than 2", "max_tokens", None),
        (CHAT, body(HELLO, n=2), 400, "n: Input should be 1", "n", None),
        (CHAT, body(HELLO, seed=-2), 400, "seed: Input should be greater than", "seed", None),
        (CHAT, body(HELLO, seed=2**63), 400, "seed: Input should be less than 9223372036854775808", "seed", None),
        (CHAT, body(HELLO, stop=["a"] * 5), 400, "stop: List should have at most 4 items", "stop", None),
        (CHAT, body(HELLO, stop=""), 400, "stop.0: String should have at least 1 character", "stop", None),
        (CHAT, body(HELLO, model="other"), 404, "no model other here; this server has held", "model",
         "model_not_found"),
        (CHAT, body(HELLO, user="x" * 4096), 413, "the body is larger than 4096 bytes", None, None),
        (TEXT, body(ONCE, prompt=["a", "b"]), 400, "prompt: List should have at most 1 item", "prompt", None),
        (TEXT, body(ONCE, prompt=""), 400, "prompt.0: String should have at least 1 character", "prompt", None),
        (TEXT, body(ONCE, prompt=[1]), 400, "prompt.0: Input should be a valid string", "prompt", None),
        (TEXT, body(ONCE, echo=True), 400, "echo: llama.cpp has no such option here; leave it out, or send false",
         "echo", None),
        (TEXT, body(ONCE, best_of=True), 400, "best_of: llama.cpp has no such option here", "best_of", None),
        (TEXT, body(ONCE, prompt="too long"), 400, "prompt: got a prompt of 9 tokens", "prompt",
         "context_length_exceeded"),
        (TEXT, body(ONCE, prompt="too long", stream=True), 400, "prompt: got a prompt of 9 tokens", "prompt",
         "context_length_exceeded"),
        (CHAT, body(HELLO, messages=[{"role": "user"}]), 400, "messages.0: content is missing", "messages", None),
        ("/v1/embeddings", b"{}", 404, "held writes texts; an embedding model is published with --embeddings", "model",
         "model_not_found"),
    ],
)  # fmt: skip
def test_what_cannot_be_answered_is_reported_as_openai_does(
    free: Here, path: str, content: bytes, status: int, expected: str, param: str | None, code: str | None
) -> None:
    answer = ask(free.address, path, content)
    error = answer.json["error"]

    assert answer.status == status
    assert error["message"].startswith(expected)
    assert (error["type"], error["param"], error["code"]) == ("invalid_request_error", param, code)


def test_a_part_of_another_type_has_one_message(free: Here) -> None:
    """
    Its other fields are those of that type, and wrong for the same reason.
    """
    custom = {"type": "custom", "custom": {"name": "sum"}}
    answer = ask(free.address, CHAT, body(HELLO, tools=[custom, {"type": "function"}]))

    expected = "tools.0.type: Input should be 'function'; tools.1.function: Field required"
    assert answer.json["error"]["message"] == expected


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
fields = [*ChatRequest.model_fields, *TextRequest.model_fields, "other"]


@settings(max_examples=500, deadline=None)
@given(
    st.dictionaries(st.sampled_from(fields), json_values), st.sampled_from([ChatRequest, TextRequest]), st.booleans()
)
def test_whatever_comes_is_read_or_refused(values: dict[str, Any], kind: type[CompletionRequest], good: bool) -> None:
    """Nothing but a refusal is ever raised: anything else would be our fault in the eyes of the client."""
    content = json.dumps({**({**HELLO, **ONCE} if good else {}), **values}).encode("utf-8", "surrogatepass")
    model = Writer().model
    try:
        request = read(content, kind, model)
    except HttpError as refused:
        assert refused.status in (400, 404)
        assert refused.reason
    else:
        assert {"messages", "prompt"} & request.runtime_request().keys()


def test_a_key_may_what_its_scopes_say() -> None:
    keys = [Key(name=name, sha256=sha256(name.encode()).hexdigest(), scopes=(name,)) for name in ("infer", "read")]
    with here(Writer(free=True), Keys(keys)) as server:

        def answer(path: str, content: bytes | None, key: str) -> Answer:
            return ask(server.address, path, content, {"Authorization": f"Bearer {key}"})

        assert [answer(CHAT, body(HELLO), key).status for key in ("wrong", "infer", "read")] == [401, 200, 403]
        assert [answer("/v1/models", None, key).status for key in ("wrong", "infer", "read")] == [401, 403, 200]
        errors = [answer(CHAT, body(HELLO), key).json["error"] for key in ("wrong", "read")]

    assert [(error["type"], error["code"]) for error in errors] == [
        ("authentication_error", "invalid_api_key"),
        ("permission_error", None),
    ]


def test_fields_that_ask_for_nothing_pass() -> None:
    """The fields of OpenAI's protocol that clients and frameworks send unasked, with their neutral values."""
    runtime = Writer(free=True)
    neutral = {
        "tools": [], "tool_choice": "auto", "response_format": {"type": "text"}, "logprobs": False, "logit_bias": {},
        "store": False, "metadata": {"a": "b"}, "service_tier": "auto", "parallel_tool_calls": True,
        "reasoning_effort": None, "safety_identifier": "x", "prompt_cache_key": "x", "seed": -1, "n": 1,
        "top_logprobs": None, "modalities": ["text"], "audio": None, "prediction": None, "stream_options": None,
    }  # fmt: skip
    named = [{"role": "user", "content": "Hello", "name": "lea"}, {"role": "assistant", "content": "a",
             "tool_calls": [], "refusal": None}, {"role": "user", "content": "b"}]  # fmt: skip
    with here(runtime) as server:
        assert ask(server.address, CHAT, body(HELLO, **neutral, messages=named)).status == 200
        neutral_text = {"echo": False, "best_of": 1, "suffix": None, "logprobs": None, "logit_bias": None}
        assert ask(server.address, TEXT, body(ONCE, **neutral_text)).status == 200

    plain = [{"role": each["role"], "content": each["content"]} for each in named]
    assert runtime.asked == [{"messages": plain}, {"prompt": "Once", "max_tokens": 16}]


def test_figures_and_log_have_tokens_and_no_payload(free: Here) -> None:
    ask(free.address, CHAT, body(HELLO, messages=[{"role": "user", "content": "hunter2"}], user="hunter2"))
    ask(free.address, TEXT, body(ONCE, prompt="hunter2", stream=True))
    ask(free.address, CHAT, body(HELLO, messages="hunter2", hunter2=2))
    text = ask(free.address, "/metrics").content.decode()
    eventually(lambda: len(free.requests) == 4)

    for line in free.requests[:2]:
        assert (line["prompt_tokens"], line["tokens"], line["finish"]) == (7, 3, "stop")
        assert 0 <= line["first_token_seconds"] <= line["seconds"]
    assert free.requests[2]["reason"] == "malformed"
    assert "hunter2" not in json.dumps(free.log)
    assert 'rackwright_server_tokens_total{key="",kind="prompt"} 14.0' in text
    assert 'rackwright_server_tokens_total{key="",kind="completion"} 6.0' in text
    assert 'rackwright_server_first_token_seconds_count{key=""} 2.0' in text
    assert 'rackwright_server_tokens_per_second_count{key=""} 2.0' in text
    assert 'rackwright_server_requests_total{route="/v1/chat/completions",status="200"} 1.0' in text


def test_the_document_names_the_routes_and_refusals(free: Here) -> None:
    document = ask(free.address, "/openapi.json").json
    paths = document["paths"]
    chat = paths[CHAT]["post"]

    assert {TEXT, "/v1/models", "/v1/models/{name}", "/ready", "/metrics"} <= paths.keys()
    assert {"400", "401", "403", "404", "408", "413", "415", "429"} <= chat["responses"].keys()
    schema = chat["requestBody"]["content"]["application/json"]["schema"]
    assert schema == {"$ref": "#/components/schemas/ChatRequest"}
    properties = document["components"]["schemas"]["ChatRequest"]["properties"]
    assert "messages" in properties
    assert properties["model"]["enum"] == ["held"]
    assert not any(path.endswith("/infer") for path in paths)
