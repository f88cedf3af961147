"""Requests and answers of OpenAI's protocol for language models: chat completions and text completions.

Source: OpenAI's API reference. This module has the part that a text-only model can serve.
"""

import time
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Annotated, Any, ClassVar, Literal, Self, TypeVar

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import to_json

from workloads.foreign import InvalidData, parse_json
from workloads.serving.answers import HttpError
from workloads.serving.model import Model
from workloads.serving.offload import check_json
from workloads.serving.runtimes.runtime import Piece, TextEnd

DONE = b"data: [DONE]\n\n"
_SEEDS = 2**32 - 1
"""The number of seeds: llama.cpp takes 32 bits, and the last value means a random seed."""


def _as_list(value: object) -> object:
    return [value] if isinstance(value, str) else value


def _as_parts(value: object) -> object:
    return [{"type": "text", "text": value}] if isinstance(value, str) else value


Texts = Annotated[list[Annotated[str, Field(min_length=1)]], BeforeValidator(_as_list)]
"""A list of texts; a single text may stand without the list."""
Tokens = Annotated[int, Field(gt=0, lt=2**31)]


NEUTRAL: Mapping[str, tuple[object, ...]] = {
    "tools": ([],), "tool_choice": ("none", "auto"), "parallel_tool_calls": (True, False), "functions": ([],),
    "function_call": ("none", "auto"), "response_format": ({"type": "text"},), "logprobs": (False, 0),
    "top_logprobs": (0,), "logit_bias": ({},), "store": (False,), "service_tier": ("auto", "default"),
    "modalities": (["text"],), "verbosity": ("medium",), "best_of": (1,), "echo": (False,), "suffix": ("",),
    "seed": (-1,), "tool_calls": ([],),
}  # fmt: skip
"""Fields that ask for nothing with these values, which clients send unasked; with others the field is refused."""
IGNORED = ("metadata", "name", "prompt_cache_key", "safety_identifier", "user")
"""Fields that say something about the request and nothing about its answer."""


class StrictBody(BaseModel):
    """A body whose unknown fields are refused: a client that asks for tools gets an error. Null means absent."""

    model_config = ConfigDict(strict=True, frozen=True, extra="forbid")
    always_read: ClassVar[tuple[str, ...]] = ()
    """Fields that mean something with each of their values."""

    @model_validator(mode="before")
    @classmethod
    def _drop_neutral(cls, values: Any) -> Any:
        if not isinstance(values, dict):
            return values
        kept = (key for key, value in values.items() if not _is_neutral(key, value) or key in cls.always_read)
        return {key: values[key] for key in kept if values[key] is not None}


def _is_neutral(name: str, value: object) -> bool:
    # 0 equals False, and 1 equals True: the types have to be the same, too
    neutral = any(value == each and type(value) is type(each) for each in NEUTRAL.get(name, ()))
    return value is None or neutral or name in IGNORED


class Part(StrictBody):
    type: Literal["text"]
    text: str


FunctionName = Annotated[str, Field(pattern=r"^[a-zA-Z0-9_-]{1,64}$")]


class CalledFunction(StrictBody):
    always_read = ("name",)
    name: FunctionName
    arguments: str
    """The arguments, as the model has written them."""


class ToolCall(StrictBody):
    id: Annotated[str, Field(min_length=1, max_length=256)]
    type: Literal["function"]
    function: CalledFunction


class Message(StrictBody):
    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: Annotated[list[Part], Field(min_length=1), BeforeValidator(_as_parts)] | None = None
    tool_calls: list[ToolCall] = Field(default=[], max_length=128)
    tool_call_id: Annotated[str, Field(min_length=1, max_length=256)] | None = None

    @model_validator(mode="after")
    def _check_role(self) -> Self:
        if self.content is None and not self.tool_calls:
            raise ValueError("content is missing")
        if self.tool_calls and self.role != "assistant":
            raise ValueError(f"tool_calls are those of the assistant, not of role {self.role}")
        if (self.role == "tool") != (self.tool_call_id is not None):
            raise ValueError("a message of role tool, and no other one, has the tool_call_id that it answers")
        return self

    @property
    def runtime_message(self) -> dict[str, Any]:
        """The message as the runtime reads it."""
        text = None if self.content is None else "".join(part.text for part in self.content)
        calls = {"tool_calls": [each.model_dump() for each in self.tool_calls]} if self.tool_calls else {}
        answered = {"tool_call_id": self.tool_call_id} if self.tool_call_id is not None else {}
        # chat templates have no role developer
        return {"role": "system" if self.role == "developer" else self.role, "content": text, **calls, **answered}


class StreamOptions(StrictBody):
    include_usage: bool = False
    include_obfuscation: bool = False
    """Whether events are padded; the server never pads them, as OpenAI's answers may do."""


SCHEMA_BYTES, SCHEMA_DEPTH, SCHEMA_PARTS = 16 << 10, 16, 512
"""Limits of a JSON Schema: llama.cpp makes a grammar of it, whose size the time of each token depends on."""
REPETITIONS = ("minLength", "maxLength", "minItems", "maxItems")
MOST_REPETITIONS = 4096
"""The largest sum of all values of REPETITIONS in a schema: llama.cpp writes a rule for each."""
MOST_LOGPROBS = 20
"""The most alternatives of a token. Source: OpenAI's API reference, top_logprobs."""


def _check_schema(schema: dict[str, Any]) -> dict[str, Any]:
    """Return *schema* if the grammar of it has a bounded size."""
    _measure_schema(schema)
    return schema


def _measure_schema(schema: dict[str, Any]) -> tuple[int, int]:
    """Return the values and the repetitions of *schema*, with a copy of each part that a reference names.

    Alternatives that refer to alternatives would multiply the ways in which llama.cpp reads each character.

    Raises:
        ValueError: the schema is beyond its limits.
    """
    if len(to_json(schema)) > SCHEMA_BYTES:
        raise ValueError(f"the schema has more than {SCHEMA_BYTES} bytes")
    parts = repetitions = 0
    level: list[Any] = [schema]
    for _ in range(SCHEMA_DEPTH):
        below: list[Any] = []
        for each in level:  # grows by the parts that references name
            parts += 1
            if parts > SCHEMA_PARTS:
                raise ValueError(f"the schema has more than {SCHEMA_PARTS} values, with the parts of its references")
            if isinstance(each, dict):
                repetitions += _check_keywords(each)
                below += each.values()
                if isinstance(reference := each.get("$ref"), str):
                    level.append(_resolve_reference(schema, reference))
            elif isinstance(each, list):
                below += each
        level = below
    if level:
        raise ValueError(f"the schema is nested deeper than {SCHEMA_DEPTH}, or refers to itself")
    if repetitions > MOST_REPETITIONS:
        names = ", ".join(REPETITIONS)
        raise ValueError(f"the values of {names} in the schema are more than {MOST_REPETITIONS} together")
    return parts, repetitions


def _resolve_reference(schema: dict[str, Any], reference: str) -> Any:
    """Return the part of *schema* that *reference* names, such as ``#/$defs/city``."""
    root, *names = reference.split("/")
    found: Any = schema
    for name in names:
        if isinstance(found, dict) and name in found and not {*"~%"} & {*name}:
            found = found[name]
        elif isinstance(found, list) and name.isascii() and name.isdecimal() and int(name[:4]) < len(found):
            found = found[int(name[:4])]
        else:
            root = ""
    if root != "#":
        raise ValueError(f"the schema has no part {reference[:64]!r}, to which it refers")
    return found


def _check_keywords(schema: dict[str, Any]) -> int:
    """Return the sum of the repetitions that *schema* itself asks for.

    A reference may point at any part of a schema, so each object counts as a schema. A property may have the name of
    a keyword: its value is an object then, and no text or number.

    Raises:
        ValueError: *schema* has a regular expression. The time for each token has no bound with one such as
            ``(a?|a?){300}``, and llama.cpp writes no other text in that time.
    """
    if isinstance(schema.get("pattern"), str):
        raise ValueError("the schema has the keyword pattern; remove it, and check the answer with it instead")
    # bool is an int
    values = (schema.get(name) for name in REPETITIONS)
    return sum(abs(int(value)) for value in values if isinstance(value, int | float) and abs(value) < 1 << 63)


class JsonSchema(StrictBody):
    schema_: Annotated[dict[str, Any], AfterValidator(_check_schema)] = Field(alias="schema")
    strict: bool = True
    """Whether the answer has the schema; llama.cpp's always have it."""
    description: str = ""


class JsonSchemaFormat(StrictBody):
    type: Literal["json_schema"]
    json_schema: JsonSchema


class JsonObjectFormat(StrictBody):
    type: Literal["json_object"]


CALL_BYTES = 4 << 20
"""The largest call of a function."""
MOST_TOOLS, TOOL_PARTS = 64, 2048
"""The most tools of a request, and values of all their schemas. A call is of one tool, so the time of each token
depends on the largest one."""


class ToolFunction(StrictBody):
    always_read = ("name",)
    name: FunctionName
    description: Annotated[str, Field(max_length=16 << 10)] = ""
    parameters: Annotated[dict[str, Any], AfterValidator(_check_schema)] = {"type": "object", "properties": {}}
    strict: bool = False
    """Whether calls have the schema; those of `required` and of a named function always have it."""


class Tool(StrictBody):
    type: Literal["function"]
    function: ToolFunction


class NamedFunction(StrictBody):
    always_read = ("name",)
    name: FunctionName


class NamedTool(StrictBody):
    type: Literal["function"]
    function: NamedFunction


def _check_tools(tools: list[Tool]) -> list[Tool]:
    """Return *tools* if their names differ, and if the grammar of all of them has a bounded size."""
    names = [tool.function.name for tool in tools]
    if repeated := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(f"there are several functions {', '.join(repeated)}")
    parts = repetitions = 0
    for tool in tools:
        of_tool, repeated_of_tool = _measure_schema(tool.function.parameters)
        parts, repetitions = parts + of_tool, repetitions + repeated_of_tool
    if parts > TOOL_PARTS or repetitions > MOST_REPETITIONS:
        limits = f"{TOOL_PARTS} values and {MOST_REPETITIONS} repetitions"
        raise ValueError(f"the parameters of all functions have {limits} together at most")
    return tools


def call_schema(tools: Sequence[Tool]) -> dict[str, Any]:
    """Return the JSON Schema of a call of one of *tools*, in which references name the parts of the tool's schema."""
    places = {tool.function.name: f"#/$defs/{number}" for number, tool in enumerate(tools)}
    return {
        "anyOf": [
            {
                "type": "object",
                "properties": {"name": {"const": name}, "arguments": {"$ref": place}},
                "required": ["name", "arguments"],
                "additionalProperties": False,
            }
            for name, place in places.items()
        ],
        "$defs": {str(number): _with_references(tool.function.parameters, number) for number, tool in enumerate(tools)},
    }


def _with_references(value: Any, number: int) -> Any:
    """Return *value*, a part of a schema, with its references as parts of the schema of call *number*."""
    if isinstance(value, list):
        return [_with_references(each, number) for each in value]
    if not isinstance(value, dict):
        return value
    moved = {key: _with_references(each, number) for key, each in value.items()}
    if isinstance(reference := value.get("$ref"), str):
        moved["$ref"] = f"#/$defs/{number}{reference.removeprefix('#')}"
    return moved


class ModelRequest(StrictBody):
    """A request to a model."""

    model: str


class CompletionRequest(ModelRequest):
    """The fields that both kinds of request share."""

    route: ClassVar[str]
    max_tokens: Tokens | None = None
    temperature: float | None = Field(default=None, ge=0, le=2)
    top_p: float | None = Field(default=None, ge=0, le=1)
    frequency_penalty: float | None = Field(default=None, ge=-2, le=2)
    presence_penalty: float | None = Field(default=None, ge=-2, le=2)
    stop: Texts = Field(default=[], max_length=4)
    seed: int | None = Field(default=None, ge=0, lt=_SEEDS)
    n: Literal[1] = 1
    stream: bool = False
    stream_options: StreamOptions | None = None

    @model_validator(mode="after")
    def _check_combinations(self) -> Self:
        if self.stream_options and not self.stream:
            raise ValueError("stream_options needs stream: true")
        return self

    def prompt_field(self) -> str:
        raise NotImplementedError

    @property
    def schema_field(self) -> str | None:
        """The field with schemas for the answer; None without one."""
        return None

    def runtime_request(self) -> dict[str, Any]:
        """Return the request as the runtime reads it."""
        names = ("max_tokens", "temperature", "top_p", "frequency_penalty", "presence_penalty", "stop", "seed")
        return {name: value for name in names if (value := getattr(self, name)) not in (None, [])}


class ChatRequest(CompletionRequest):
    always_read = ("tool_choice", "parallel_tool_calls")
    messages: list[Message] = Field(min_length=1)
    max_completion_tokens: Tokens | None = None
    logprobs: bool = False
    top_logprobs: int = Field(default=0, ge=0, le=MOST_LOGPROBS)
    response_format: JsonSchemaFormat | JsonObjectFormat | None = Field(default=None, discriminator="type")
    tools: Annotated[list[Tool], Field(max_length=MOST_TOOLS), AfterValidator(_check_tools)] = []
    tool_choice: Literal["none", "auto", "required"] | NamedTool = "auto"
    parallel_tool_calls: bool = True
    """Whether an answer may have several calls; that of `required` and of a named function has one."""

    @model_validator(mode="after")
    def _check_tools(self) -> Self:
        if self.tools and self.logprobs:
            raise ValueError("llama.cpp has no logprobs beside tools; leave out one of them")
        if self.tools and self.response_format:
            raise ValueError("llama.cpp has no response_format beside tools; leave out one of them")
        if not self.tools and self.tool_choice not in ("none", "auto"):
            raise ValueError("tool_choice needs tools")
        if isinstance(self.tool_choice, NamedTool) and not self.forced_tools:
            raise ValueError(f"tool_choice names {self.tool_choice.function.name}, which tools does not have")
        return self

    @property
    def uses_tools(self) -> bool:
        """Whether the prompt has tools, calls or their results."""
        offered = bool(self.tools) and self.tool_choice != "none"
        return offered or any(each.tool_calls or each.role == "tool" for each in self.messages)

    @property
    def forced_tools(self) -> tuple[Tool, ...]:
        """The tools of which the answer has to call one; empty if it may be a text."""
        if isinstance(self.tool_choice, NamedTool):
            return tuple(each for each in self.tools if each.function.name == self.tool_choice.function.name)
        return tuple(self.tools) if self.tool_choice == "required" else ()

    @model_validator(mode="after")
    def _check_limits(self) -> Self:
        if self.max_tokens and self.max_completion_tokens:
            raise ValueError("max_tokens is the old name of max_completion_tokens; send one of them")
        if self.top_logprobs and not self.logprobs:
            raise ValueError("top_logprobs needs logprobs: true")
        return self

    def prompt_field(self) -> str:
        return "messages"

    @property
    def schema_field(self) -> str | None:
        return "response_format" if self.response_format else "tools" if self.tools else None

    def runtime_request(self) -> dict[str, Any]:
        limit = {"max_tokens": self.max_completion_tokens} if self.max_completion_tokens else {}
        messages = [each.runtime_message for each in self.messages]
        # llama.cpp gives no log-probabilities without alternatives
        logprobs = {"logprobs": True, "top_logprobs": max(1, self.top_logprobs)} if self.logprobs else {}
        form = self.response_format
        constraint: dict[str, Any] = {"response_format": {"type": form.type}} if form else {}
        if isinstance(form, JsonSchemaFormat):
            constraint["response_format"]["json_schema"] = {"name": "answer", "schema": form.json_schema.schema_}
        request = {**super().runtime_request(), **limit, **logprobs, **constraint, **self._runtime_tools()}
        return {**request, "messages": messages}

    def _runtime_tools(self) -> dict[str, Any]:
        """Return the tools as the runtime reads them."""
        if not self.tools or self.tool_choice == "none":
            return {}
        tools = [each.model_dump(exclude={"function": {"strict"}}) for each in self.tools]
        if not self.forced_tools:
            return {"tools": tools, "tool_choice": "auto", "parallel_tool_calls": self.parallel_tool_calls}
        # llama.cpp's own `required` lets a text come before the call, which small models never end
        form = {"type": "json_schema", "json_schema": {"name": "call", "schema": call_schema(self.forced_tools)}}
        return {"tools": tools, "tool_choice": "none", "response_format": form}


class TextRequest(CompletionRequest):
    prompt: Texts = Field(min_length=1, max_length=1)
    logprobs: int = Field(default=0, ge=0, le=MOST_LOGPROBS)

    def prompt_field(self) -> str:
        return "prompt"

    def runtime_request(self) -> dict[str, Any]:
        logprobs = {"logprobs": self.logprobs} if self.logprobs else {}
        return {**super().runtime_request(), **logprobs, "prompt": self.prompt[0]}


R = TypeVar("R", bound=ModelRequest)


def read(body: bytes, kind: type[R], model: Model) -> R:
    """Return the request in *body* to *model*.

    Raises:
        HttpError: 400 if malformed, 404 for another model.
    """
    if too_much := check_json(body):
        raise HttpError(400, f"the body: {too_much}")
    try:
        request = kind.model_validate_json(body)
    except ValidationError as error:
        problems = error.errors(include_url=False, include_input=False)[:8]
        param = str(problems[0]["loc"][0])[:200] if problems[0]["loc"] else None
        raise HttpError(400, "; ".join(_format_problem(problem, kind) for problem in problems), param=param) from None
    check_model(request.model, model)
    return request


def check_model(name: str, model: Model) -> None:
    """Check that *name* is the name of *model*.

    Raises:
        HttpError: 404 if it is another.
    """
    if name != model.name:
        reason = f"no model {name[:64]} here; this server has {model.name}"
        raise HttpError(404, reason, param="model", code="model_not_found")


def _format_problem(problem: Any, kind: type[ModelRequest]) -> str:
    where = ".".join(map(str, problem["loc"]))[:200] or "the body"
    if problem["type"] == "extra_forbidden":
        name = problem["loc"][-1]
        if name in NEUTRAL:
            values = " or ".join(to_json(each).decode() for each in NEUTRAL[name])
            return f"{where}: llama.cpp has no such option here; leave it out, or send {values}"
        fields = f"; the fields are {', '.join(kind.model_fields)}" if len(problem["loc"]) == 1 else ""
        return f"{where}: unknown field{fields}"
    return f"{where}: {problem['msg'].removeprefix('Value error, ')}"


class AnswerFormat:
    """The format of one answer, whole or as a stream."""

    def __init__(self, request: CompletionRequest, model: Model) -> None:
        self._chat = isinstance(request, ChatRequest)
        self._alternatives = request.top_logprobs if isinstance(request, ChatRequest) else MOST_LOGPROBS
        self._is_call = isinstance(request, ChatRequest) and bool(request.forced_tools)
        """Whether the text is a call, in the form of `call_schema`."""
        self._call = ""
        """The text of the call so far."""
        self._offset = 0
        """Characters of the text so far, for the log-probabilities of a text."""
        self._with_usage = request.stream_options is not None and request.stream_options.include_usage
        self._common = {
            "id": f"{'chatcmpl' if self._chat else 'cmpl'}-{uuid.uuid4().hex}",
            "created": int(time.time()),
            "model": model.name,
            "system_fingerprint": model.version,
        }

    def whole(self, pieces: Iterable[Piece]) -> bytes:
        """Return the whole answer that consists of *pieces*."""
        pieces = [*map(self._as_call, pieces)]
        end, text = pieces[-1].end, "".join(piece.text for piece in pieces)
        assert end is not None
        calls = _join_calls([part for piece in pieces for part in piece.calls])
        # a message with calls alone has no text
        message: dict[str, Any] = {"role": "assistant", "content": text or (None if calls or self._is_call else "")}
        message |= {"tool_calls": calls} if calls else {}
        content = {"message": message} if self._chat else {"text": text}
        logprobs = self._logprobs([token for piece in pieces for token in piece.logprobs])
        choice = {"index": 0, **content, "logprobs": logprobs, "finish_reason": end.reason}
        kind = "chat.completion" if self._chat else "text_completion"
        return to_json({**self._common, "object": kind, "choices": [choice], "usage": _usage(end)})

    def opening(self) -> bytes:
        """Return the event before the first piece: in a chat, the role of the speaker."""
        return self._event({"delta": {"role": "assistant", "content": ""}}) if self._chat else b""

    def events(self, piece: Piece) -> bytes:
        """Return the events of *piece*; `DONE` follows the last one."""
        events, piece = b"", self._as_call(piece)
        if piece.calls:
            events += self._event({"delta": {"tool_calls": piece.calls}})
        if piece.text:
            content = {"delta": {"content": piece.text}} if self._chat else {"text": piece.text}
            events += self._event(content, logprobs=self._logprobs(piece.logprobs))
        if piece.end:
            events += self._event({"delta": {}} if self._chat else {"text": ""}, piece.end.reason)
            if self._with_usage:
                events += self._line([], {"usage": _usage(piece.end)})
        return events

    def _as_call(self, piece: Piece) -> Piece:
        """Return *piece*; of a text that is a call, the call with its last piece, and none if the text was cut."""
        if not self._is_call:
            return piece
        self._call += piece.text
        if piece.end is None or piece.end.reason != "stop":
            return replace(piece, text="")
        try:
            call = parse_json(self._call.encode(), CALL_BYTES)
        except InvalidData:  # too long, or too deep
            return replace(piece, text="", end=replace(piece.end, reason="length"))
        function = {"name": call["name"], "arguments": to_json(call["arguments"]).decode()}
        part = {"index": 0, "id": f"call_{uuid.uuid4().hex}", "type": "function", "function": function}
        return replace(piece, text="", calls=(part,), end=replace(piece.end, reason="tool_calls"))

    def _event(
        self, content: dict[str, Any], reason: str | None = None, logprobs: dict[str, Any] | None = None
    ) -> bytes:
        usage = {"usage": None} if self._with_usage else {}
        return self._line([{"index": 0, **content, "logprobs": logprobs, "finish_reason": reason}], usage)

    def _logprobs(self, tokens: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
        """Return the log-probabilities of *tokens* in the form of a chat or of a text; None without any."""
        if not tokens:
            return None
        if self._chat:
            shown = [
                {
                    **_format_token(token),
                    "top_logprobs": [*map(_format_token, token["top_logprobs"][: self._alternatives])],
                }
                for token in tokens
            ]
            return {"content": shown, "refusal": None}
        offsets = []
        for token in tokens:
            offsets.append(self._offset)
            self._offset += len(token["token"])
        return {
            "tokens": [token["token"] for token in tokens],
            "token_logprobs": [token["logprob"] for token in tokens],
            "top_logprobs": [{each["token"]: each["logprob"] for each in token["top_logprobs"]} for token in tokens],
            "text_offset": offsets,
        }

    def _line(self, choices: list[Any], more: dict[str, Any]) -> bytes:
        kind = "chat.completion.chunk" if self._chat else "text_completion"
        return format_event({**self._common, "object": kind, "choices": choices, **more})


def _join_calls(parts: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the calls whose *parts* a stream has."""
    calls: dict[int, dict[str, Any]] = {}
    for part in parts:
        function = part.get("function", {})
        call = calls.setdefault(
            part["index"], {"id": "", "type": "function", "function": {"name": "", "arguments": ""}}
        )
        call["id"] = part.get("id") or call["id"]
        for name in ("name", "arguments"):
            call["function"][name] += function.get(name) or ""
    return [call for _, call in sorted(calls.items())]


def _format_token(token: Mapping[str, Any]) -> dict[str, Any]:
    return {name: token[name] for name in ("token", "logprob", "bytes")}


def format_event(data: object) -> bytes:
    """Return *data* as one server-sent event."""
    return b"data: " + to_json(data) + b"\n\n"


def _usage(end: TextEnd) -> dict[str, int] | None:
    """Return the tokens of a text; None if the text was cut before its prompt was counted."""
    if end.prompt_tokens is None:
        return None
    whole = end.prompt_tokens + end.tokens
    return {"prompt_tokens": end.prompt_tokens, "completion_tokens": end.tokens, "total_tokens": whole}
