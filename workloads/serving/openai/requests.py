"""Requests for chat completions and text completions."""

from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from workloads.serving.openai.body import ModelRequest, StrictBody, Texts
from workloads.serving.openai.grammar import enforceable
from workloads.serving.openai.schema import check_schema
from workloads.serving.openai.tools import (
    MOST_TOOLS,
    Tool,
    ToolCall,
    ToolChoice,
    call_schema,
    check_enforced,
    check_tools,
    is_forced,
    names_in,
)

_SEEDS = 2**32 - 1
"""The number of seeds of llama.cpp, which takes 32 bits and chooses the seed itself for the last value."""


def _as_short_seed(seed: int) -> int:
    """Return the seed of llama.cpp for a *seed* of a client, which may have 63 bits."""
    return seed % _SEEDS


def _as_parts(value: object) -> object:
    return [{"type": "text", "text": value}] if isinstance(value, str) else value


Tokens = Annotated[int, Field(gt=0, lt=2**31)]
TEXT_TOKENS = 16
"""The tokens of an answer of `/v1/completions` without `max_tokens`, as OpenAI and vLLM have it."""
MOST_LOGPROBS = 20
"""The most alternatives of a token. Source: OpenAI's API reference, top_logprobs."""


class Part(StrictBody):
    type: Literal["text"]
    text: str


class Message(StrictBody):
    of_answers = ("annotations", "reasoning", "reasoning_content")
    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: Annotated[list[Part], Field(min_length=1), BeforeValidator(_as_parts)] | None = None
    tool_calls: list[ToolCall] = Field(default=[], max_length=128)
    tool_call_id: Annotated[str, Field(min_length=1, max_length=256)] | None = None
    refusal: str | None = None
    """The text of an earlier answer that refused, in place of its content."""

    @model_validator(mode="after")
    def _check_role(self) -> Self:
        if self.content is None and not self.tool_calls and self.refusal is None:
            raise ValueError("content is missing")
        if self.refusal is not None and self.role != "assistant":
            raise ValueError(f"a refusal is one of the assistant, not of role {self.role}")
        if self.tool_calls and self.role != "assistant":
            raise ValueError(f"tool_calls are those of the assistant, not of role {self.role}")
        if (self.role == "tool") != (self.tool_call_id is not None):
            raise ValueError("a message of role tool, and no other one, has the tool_call_id that it answers")
        return self

    @property
    def runtime_message(self) -> dict[str, Any]:
        """The message as the runtime reads it."""
        text = self.refusal if self.content is None else "".join(part.text for part in self.content)
        calls = {"tool_calls": [each.model_dump() for each in self.tool_calls]} if self.tool_calls else {}
        answered = {"tool_call_id": self.tool_call_id} if self.tool_call_id is not None else {}
        # chat templates have no role developer
        return {"role": "system" if self.role == "developer" else self.role, "content": text, **calls, **answered}


class StreamOptions(StrictBody):
    include_usage: bool = False
    include_obfuscation: bool = False
    """Whether events are padded; the server never pads them, as OpenAI's answers may do."""


class JsonSchema(StrictBody):
    schema_: Annotated[dict[str, Any], AfterValidator(check_schema), AfterValidator(enforceable)] = Field(
        alias="schema"
    )
    strict: bool = True
    """Whether the answer has the schema; llama.cpp's always have it."""
    description: str = ""


class JsonSchemaFormat(StrictBody):
    type: Literal["json_schema"]
    json_schema: JsonSchema


class JsonObjectFormat(StrictBody):
    type: Literal["json_object"]


class CompletionRequest(ModelRequest):
    """The fields that both kinds of request share."""

    route: ClassVar[str]
    max_tokens: Tokens | None = None
    temperature: float | None = Field(default=None, ge=0, le=2)
    top_p: float | None = Field(default=None, ge=0, le=1)
    frequency_penalty: float | None = Field(default=None, ge=-2, le=2)
    presence_penalty: float | None = Field(default=None, ge=-2, le=2)
    stop: Texts = Field(default=[], max_length=4)
    seed: Annotated[int, Field(ge=0, lt=2**63), AfterValidator(_as_short_seed)] | None = None
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

    @property
    def alternatives(self) -> int:
        """The most alternatives of a token that the answer shows."""
        raise NotImplementedError

    def runtime_request(self) -> dict[str, Any]:
        """Return the request as the runtime reads it."""
        names = ("max_tokens", "temperature", "top_p", "frequency_penalty", "presence_penalty", "stop", "seed")
        return {name: value for name in names if (value := getattr(self, name)) not in (None, [])}


class ChatRequest(CompletionRequest):
    always_read = ("tool_choice", "parallel_tool_calls")
    tagged = ("response_format", "tool_choice")
    messages: list[Message] = Field(min_length=1)
    max_completion_tokens: Tokens | None = None
    logprobs: bool = False
    top_logprobs: int = Field(default=0, ge=0, le=MOST_LOGPROBS)
    response_format: JsonSchemaFormat | JsonObjectFormat | None = Field(default=None, discriminator="type")
    tools: Annotated[list[Tool], Field(max_length=MOST_TOOLS), AfterValidator(check_tools)] = Field(default=[])
    tool_choice: ToolChoice = "auto"
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
        known = [each.function.name for each in self.tools]
        if unknown := sorted({*(names_in(self.tool_choice) or ())} - {*known}):
            raise ValueError(f"tool_choice names {', '.join(unknown)}, which tools does not have")
        for each in self.forced_tools:
            check_enforced(each)
        return self

    @property
    def uses_tools(self) -> bool:
        """Whether the prompt has tools, calls or their results."""
        return bool(self.offered_tools) or any(each.tool_calls or each.role == "tool" for each in self.messages)

    @property
    def offered_tools(self) -> tuple[Tool, ...]:
        """The tools that the answer may call."""
        names = names_in(self.tool_choice)
        chosen = () if self.tool_choice == "none" else self.tools
        return tuple(each for each in chosen if names is None or each.function.name in names)

    @property
    def forced_tools(self) -> tuple[Tool, ...]:
        """The tools of which the answer has to call one; empty if it may be a text."""
        return self.offered_tools if is_forced(self.tool_choice) else ()

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

    @property
    def alternatives(self) -> int:
        return self.top_logprobs

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
        if not self.offered_tools:
            return {}
        shown = self.tools if self.forced_tools else self.offered_tools
        tools = [each.model_dump(exclude={"function": {"strict"}}) for each in shown]
        if not self.forced_tools:
            return {"tools": tools, "tool_choice": "auto", "parallel_tool_calls": self.parallel_tool_calls}
        # llama.cpp's own `required` lets a text come before the call, which small models never end
        form = {"type": "json_schema", "json_schema": {"name": "call", "schema": call_schema(self.forced_tools)}}
        return {"tools": tools, "tool_choice": "none", "response_format": form}


class TextRequest(CompletionRequest):
    always_read = ("logprobs",)
    prompt: Texts = Field(min_length=1, max_length=1)
    logprobs: Annotated[int, Field(ge=0, le=MOST_LOGPROBS)] | None = None
    """Alternatives of each token; 0 for the token alone, None for no log-probabilities."""

    def prompt_field(self) -> str:
        return "prompt"

    @property
    def alternatives(self) -> int:
        return self.logprobs or 0

    def runtime_request(self) -> dict[str, Any]:
        logprobs = {} if self.logprobs is None else {"logprobs": max(1, self.logprobs)}
        limit = {"max_tokens": self.max_tokens or TEXT_TOKENS}
        return {**super().runtime_request(), **logprobs, **limit, "prompt": self.prompt[0]}
