"""Tools of a chat: what the model is asked, which calls an answer has, and what is refused."""

import json
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from tests.support.model_servers import Answer, Writer, ask, here
from workloads.serving.answers import HttpError
from workloads.serving.openai.body import read
from workloads.serving.openai.requests import ChatRequest
from workloads.serving.openai.tools import CALL_ID, MOST_TOOLS, NO_ARGUMENTS, call_schema
from workloads.serving.runtimes.events import EventReader
from workloads.serving.runtimes.runtime import Piece, TextEnd

CHAT = "/v1/chat/completions"
HELLO = {"model": "held", "messages": [{"role": "user", "content": "Hello"}]}
CITY = {"type": "object", "properties": {"city": {"$ref": "#/$defs/name"}}, "$defs": {"name": {"type": "string"}}}


def tool(name: str = "weather", **function: Any) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name, "parameters": CITY, **function}}


NAMED = {"type": "function", "function": {"name": "time"}}
TWO = [tool(), tool("time", parameters={"type": "object"})]
CALL = {"id": "c1", "type": "function", "function": {"name": "weather", "arguments": "{}"}}


class Caller(Writer):
    """A language model that knows tools."""

    writes_tools = True


def body(**more: Any) -> bytes:
    return json.dumps({**HELLO, **more}).encode()


def refusal(**more: Any) -> str:
    with pytest.raises(HttpError) as refused:
        read(body(**more), ChatRequest, Writer().model)
    assert refused.value.status == 400
    return refused.value.reason


def deltas(answer: Answer) -> list[dict[str, Any]]:
    lines = [
        line.removeprefix("data: ") for line in answer.content.decode().split("\n\n") if line.startswith("data: {")
    ]
    return [choice for line in lines for choice in json.loads(line)["choices"]]


def test_a_model_whose_template_writes_no_tools_refuses_them() -> None:
    results = [*HELLO["messages"], {"role": "assistant", "tool_calls": [CALL]},
               {"role": "tool", "tool_call_id": "c1", "content": "snow"}]  # fmt: skip
    with here(Writer(free=True)) as server:
        for more in ({"tools": TWO}, {"messages": results}):
            answer = ask(server.address, CHAT, body(**more))
            error = answer.json["error"]
            assert (answer.status, error["param"]) == (400, "tools")
            assert error["message"] == ("tools: the chat template of held writes no tools and no calls; leave them out")
        assert ask(server.address, CHAT, body(tools=TWO, tool_choice="none")).status == 200, "nothing is offered"


def test_the_runtime_gets_tools_calls_and_results() -> None:
    runtime = Caller(free=True)
    results = [*HELLO["messages"], {"role": "assistant", "content": None, "tool_calls": [CALL]},
               {"role": "tool", "tool_call_id": "c1", "content": "snow", "name": "weather"}]  # fmt: skip
    with here(runtime) as server:
        assert ask(server.address, CHAT, body(tools=TWO, messages=results, parallel_tool_calls=False)).status == 200
        assert ask(server.address, CHAT, body(tools=TWO, tool_choice="none")).status == 200

    offered, none = runtime.asked
    assert (offered["tool_choice"], offered["parallel_tool_calls"]) == ("auto", False)
    assert [each["function"]["name"] for each in offered["tools"]] == ["weather", "time"]
    assert offered["messages"][1:] == [
        {"role": "assistant", "content": None, "tool_calls": [CALL]},
        {"role": "tool", "content": "snow", "tool_call_id": "c1"},
    ]
    assert none.keys() == {"messages"}


def test_a_message_of_an_answer_can_be_sent_back() -> None:
    message = {
        "role": "assistant", "content": "x", "refusal": None, "annotations": [], "audio": None, "function_call": None,
        "reasoning": "r", "reasoning_content": "r", "tool_calls": [{**CALL, "index": 0}],
    }  # fmt: skip
    request = read(body(messages=[*HELLO["messages"], message]), ChatRequest, Writer().model)
    assert request.runtime_request()["messages"][1] == {"role": "assistant", "content": "x", "tool_calls": [CALL]}


def call_of(arguments: str) -> list[dict[str, Any]]:
    """Return a chat with an earlier call that has *arguments*."""
    call = {**CALL, "function": {"name": "weather", "arguments": arguments}}
    return [*HELLO["messages"], {"role": "assistant", "content": None, "tool_calls": [call]},
            {"role": "tool", "tool_call_id": "c1", "content": "snow"}]  # fmt: skip


@pytest.mark.parametrize(
    "arguments",
    ["{", '{"patient": "Erika', "{}x", "[1]", "null", "7", '{"a": 1e999}', '{"a": NaN}', '{"a": "\\ud800"}', " "],
)
def test_an_earlier_call_whose_arguments_no_template_can_read_is_refused(arguments: str) -> None:
    """
    Before, llama.cpp failed at such a call: 500, for a conversation that the client had been sent by the model itself.
    """
    reason = refusal(messages=call_of(arguments))
    assert reason.startswith("messages.1.tool_calls.0.function.arguments: ")
    assert reason.endswith(
        "send the arguments of a call as a JSON object, such as {}, or leave the call and its result out"
    )
    assert "Erika" not in reason


def test_an_earlier_call_without_arguments_has_an_empty_object() -> None:
    request = read(body(messages=call_of("")), ChatRequest, Writer().model)
    [call] = request.runtime_request()["messages"][1]["tool_calls"]
    assert call["function"]["arguments"] == "{}"


def allowed(mode: str, *names: str) -> dict[str, Any]:
    tools = [{"type": "function", "function": {"name": name}} for name in names]
    return {"type": "allowed_tools", "allowed_tools": {"mode": mode, "tools": tools}}


def test_a_request_may_allow_some_of_its_tools() -> None:
    request = read(body(tools=TWO, tool_choice=allowed("auto", "time")), ChatRequest, Writer().model)
    offered = request.runtime_request()
    assert offered["tool_choice"] == "auto"
    assert [each["function"]["name"] for each in offered["tools"]] == ["time"]


@pytest.mark.parametrize(
    ("choice", "names"),
    [("required", ["weather", "time"]), (NAMED, ["time"]), (allowed("required", "time"), ["time"])],
)
def test_a_forced_call_has_the_schema_of_a_function(choice: object, names: list[str]) -> None:
    runtime = Caller(free=True)
    with here(runtime) as server:
        assert ask(server.address, CHAT, body(tools=TWO, tool_choice=choice, max_tokens=1)).status in (200, 500)

    [asked] = runtime.asked
    form = asked["response_format"]["json_schema"]["schema"]
    assert asked["tool_choice"] == "none" and len(asked["tools"]) == 2
    assert [each["properties"]["name"]["const"] for each in form["anyOf"]] == names


def test_the_schema_of_a_call_has_the_parts_that_references_name() -> None:
    request = read(body(tools=[tool("time", parameters={}), tool()]), ChatRequest, Writer().model)
    form = call_schema(request.tools)

    time, weather = (each["properties"]["arguments"] for each in form["anyOf"])
    assert time == NO_ARGUMENTS, "a function without parameters has none"
    assert weather["properties"]["city"] == {"type": "string"}
    assert request.tools[1].function.parameters == CITY, "the prompt has the schema as it is"


def test_parameters_that_no_grammar_enforces_are_refused_where_a_call_is_forced() -> None:
    tools = [tool(parameters={"type": "object", "properties": {"n": {"type": "number", "minimum": 1}}})]
    assert "tools: the parameters of weather: the schema has properties.n.minimum of type number" in refusal(
        tools=tools, tool_choice="required"
    )
    assert read(body(tools=tools), ChatRequest, Writer().model).tools


@pytest.mark.parametrize("stream", [False, True])
def test_a_forced_call_is_answered_as_a_call(stream: bool) -> None:
    runtime = Caller('{"name": "time", ', '"arguments": {"zone": "\\u00fc"}}', free=True)
    with here(runtime) as server:
        answer = ask(server.address, CHAT, body(tools=TWO, tool_choice="required", stream=stream))

    if stream:
        role, delta, end = deltas(answer)
        assert (role["delta"]["role"], end["finish_reason"]) == ("assistant", "tool_calls")
        [call] = delta["delta"]["tool_calls"]
        assert call.pop("index") == 0
    else:
        [choice] = answer.json["choices"]
        assert (choice["message"]["content"], choice["finish_reason"]) == (None, "tool_calls")
        [call] = choice["message"]["tool_calls"]
    assert CALL_ID.fullmatch(call.pop("id")), "templates of Mistral's models take no other id"
    assert call == {"type": "function", "function": {"name": "time", "arguments": '{"zone":"ü"}'}}


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("reason", ["length", "stop"])
def test_a_forced_call_that_was_cut_is_no_call(reason: str, stream: bool) -> None:
    """
    By the limit of tokens, or by a stop sequence, whose reason had been that of a limit.
    """

    class Cut(Caller):
        def generate(self, asked: Mapping[str, Any], on_piece: Callable[[Piece], bool]) -> None:
            on_piece(Piece('{"name": "ti', TextEnd(reason, 7, 3)))

    with here(Cut(free=True)) as server:
        answer = ask(server.address, CHAT, body(tools=TWO, tool_choice=NAMED, stream=stream))

    choice = deltas(answer)[-1] if stream else answer.json["choices"][0]
    assert choice["finish_reason"] == reason
    assert "tool_calls" not in (choice["delta"] if stream else choice["message"])


PARTS = (
    {"index": 0, "id": "aB3dE6gH9", "type": "function", "function": {"name": "weather", "arguments": ""}},
    {"index": 0, "function": {"arguments": '{"city"'}},
    {"index": 1, "id": "J" * 32, "type": "function", "function": {"name": "time", "arguments": "{}"}},
    {"index": 0, "function": {"arguments": ': "Oslo"}'}},
)


def llama_events() -> list[dict[str, Any]]:
    """Return events in the form of llama.cpp's, with a text and two calls."""
    parts = [{"content": "Let me look."}, *({"tool_calls": [part]} for part in PARTS)]
    events: list[dict[str, Any]] = [{"choices": [{"index": 0, "finish_reason": None, "delta": each}]} for each in parts]
    events += [{"choices": [{"index": 0, "finish_reason": "tool_calls", "delta": {}}]}]
    return [*events, {"choices": [], "usage": {"prompt_tokens": 7, "completion_tokens": 9}}]


@pytest.mark.parametrize("stream", [False, True])
def test_calls_that_llama_cpp_reads_reach_the_client(stream: bool) -> None:
    class Reading(Caller):
        def generate(self, asked: Mapping[str, Any], on_piece: Callable[[Piece], bool]) -> None:
            reader = EventReader(on_piece, lambda error: RuntimeError(str(error)))
            assert all(reader.feed(event) for event in llama_events())

    with here(Reading(free=True)) as server:
        answer = ask(server.address, CHAT, body(tools=TWO, stream=stream))

    if stream:
        found = deltas(answer)
        parts = [part for each in found for part in each["delta"].get("tool_calls", [])]
        ids = [part["id"] for part in parts if "id" in part]
        assert [
            {**part, "id": other["id"]} if "id" in part else part for part, other in zip(parts, PARTS, strict=True)
        ] == [*PARTS]
        assert found[-1]["finish_reason"] == "tool_calls"
    else:
        [choice] = answer.json["choices"]
        assert (choice["message"]["content"], choice["finish_reason"]) == ("Let me look.", "tool_calls")
        calls = choice["message"]["tool_calls"]
        ids = [each["id"] for each in calls]
        assert [each["function"] for each in calls] == [
            {"name": "weather", "arguments": '{"city": "Oslo"}'},
            {"name": "time", "arguments": "{}"},
        ]
        assert answer.json["usage"]["completion_tokens"] == 9
    assert ids[0] == "aB3dE6gH9", "an id that the model's own format has stays"
    assert CALL_ID.fullmatch(ids[1]), "templates of Mistral's models take no other id"


@pytest.mark.parametrize(
    ("function", "form"),
    [
        ({"name": "ping"}, NO_ARGUMENTS),
        ({"name": "ping", "parameters": None}, NO_ARGUMENTS),
        ({"name": "ping", "parameters": {"type": "object"}}, NO_ARGUMENTS),
        ({"name": "ping", "parameters": {"type": "object", "properties": {}}}, NO_ARGUMENTS),
        ({"name": "ping", "parameters": {"type": "object", "additionalProperties": True}}, {"type": "object"}),
    ],
)
def test_a_forced_call_of_a_function_without_parameters_ends(function: dict[str, Any], form: dict[str, Any]) -> None:
    """
    Before, its arguments were any object, and a small model wrote keys until it had no more tokens.
    """
    tools = [{"type": "function", "function": function}]
    request = read(body(tools=tools, tool_choice="required"), ChatRequest, Writer().model)
    [call] = call_schema(request.forced_tools)["anyOf"]
    assert call["properties"]["arguments"] == form


WIDE = {"enum": [*range(500)]}


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        ({"tool_choice": "required"}, "tool_choice needs tools"),
        ({"tool_choice": "sometimes", "tools": TWO}, "tool_choice"),
        ({"tools": TWO, "tool_choice": {"type": "function", "function": {"name": "x"}}}, "which tools does not"),
        ({"tools": TWO, "tool_choice": allowed("auto", "x", "time")}, "tool_choice names x, which tools does not"),
        ({"tools": TWO, "tool_choice": allowed("never", "time")}, "tool_choice.allowed_tools.mode: Input should be"),
        ({"tools": TWO, "tool_choice": {"type": "function"}}, "tool_choice.function: Field required"),
        ({"tools": [tool(), tool()]}, "there are several functions weather"),
        ({"tools": [tool(f"f{n}") for n in range(MOST_TOOLS + 1)]}, "at most 64 items"),
        ({"tools": [tool(f"f{n}", parameters=WIDE) for n in range(5)]}, "2048 values and 4096 repetitions together"),
        ({"tools": [tool(f"f{n}", parameters={"maxLength": 2100}) for n in range(2)]}, "4096 repetitions together"),
        ({"tools": [tool(parameters={"pattern": "a"})]}, "the keyword pattern"),
        ({"tools": [tool(parameters={"$ref": "#"})]}, "more than 512 values"),
        ({"tools": [tool("a b")]}, "tools.0.function.name"),
        ({"tools": [tool(), {"type": "web_search"}]}, "tools.1.type"),
        ({"tools": TWO, "logprobs": True}, "no logprobs beside tools"),
        ({"tools": TWO, "response_format": {"type": "json_object"}}, "no response_format beside tools"),
        ({"messages": [{"role": "user", "content": "a", "tool_calls": [CALL]}]}, "not of role user"),
        ({"messages": [{"role": "user", "content": "a", "tool_call_id": "x"}]}, "and no other one"),
        ({"functions": [{"name": "x"}]}, "functions: llama.cpp has no such option here"),
    ],
)  # fmt: skip
def test_what_is_no_request_for_calls_is_refused(more: dict[str, Any], reason: str) -> None:
    assert reason in refusal(**more)


class Thinker(Writer):
    """A language model whose template sets thoughts apart, with the events that llama.cpp writes."""

    def generate(self, request: Mapping[str, Any], on_piece: Callable[[Piece], bool]) -> None:
        reader = EventReader(on_piece, lambda error: ValueError(str(error)))
        for delta in ({"reasoning_content": "Racks "}, {"reasoning_content": "0 to 9."}, {"content": "Row 0."}):
            reader.feed({"choices": [{"delta": delta, "finish_reason": None}]})
        usage = {"prompt_tokens": 7, "completion_tokens": 9}
        reader.feed({"choices": [{"delta": {}, "finish_reason": "stop"}], "usage": usage})


@pytest.mark.parametrize("stream", [False, True])
def test_a_thought_has_a_field_of_its_own(stream: bool) -> None:
    """Its tokens are paid for, so the client gets them: in the field that vLLM and llama.cpp have for it."""
    with here(Thinker()) as server:
        answer = ask(server.address, CHAT, body(stream=stream))
    messages = [each["delta"] for each in deltas(answer)] if stream else [answer.json["choices"][0]["message"]]
    thought, text = ("".join(each.get(name) or "" for each in messages) for name in ("reasoning_content", "content"))
    assert (thought, text) == ("Racks 0 to 9.", "Row 0.")
