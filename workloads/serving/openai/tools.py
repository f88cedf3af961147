"""Tools that a model may call, and its calls."""

import re
import secrets
import string
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Discriminator, Field, Tag
from pydantic_core import to_json

from workloads.foreign import InvalidData, parse_json
from workloads.serving.openai.body import StrictBody
from workloads.serving.openai.grammar import ANY, enforceable
from workloads.serving.openai.schema import MOST_REPETITIONS, check_schema, measure_schema

CALL_BYTES = 4 << 20
"""The largest call of a function."""


def _check_arguments(arguments: str) -> str:
    """Return the arguments of an earlier call, `{}` in place of none, if a chat template can read them."""
    try:
        is_object = isinstance(parse_json((arguments or "{}").encode(), CALL_BYTES), dict)
    except InvalidData as error:
        raise ValueError(f"{error}; {_OBJECT}") from None
    if not is_object:
        raise ValueError(_OBJECT)
    return arguments or "{}"


_OBJECT = "send the arguments of a call as a JSON object, such as {}, or leave the call and its result out"
FunctionName = Annotated[str, Field(pattern=r"^[a-zA-Z0-9_-]{1,64}$")]


class CalledFunction(StrictBody):
    always_read = ("name",)
    name: FunctionName
    arguments: Annotated[str, AfterValidator(_check_arguments)]
    """The arguments, as the model has written them."""


class ToolCall(StrictBody):
    of_answers = ("index",)
    id: Annotated[str, Field(min_length=1, max_length=256)]
    type: Literal["function"]
    function: CalledFunction


CALL_ID = re.compile(r"[a-zA-Z0-9]{9}")
"""The form of the id of a call: chat templates of Mistral's models refuse a message with another one."""
ANY_OBJECT: Mapping[str, Any] = {"type": "object"}
NO_ARGUMENTS: Mapping[str, Any] = {"type": "object", "properties": {}, "required": [], "additionalProperties": False}
MOST_TOOLS, TOOL_PARTS = 64, 2048
"""The most tools of a request, and values of all their schemas. A call is of one tool, so the time of each token
depends on the largest one."""


class ToolFunction(StrictBody):
    always_read = ("name",)
    name: FunctionName
    description: Annotated[str, Field(max_length=16 << 10)] = ""
    parameters: Annotated[dict[str, Any], AfterValidator(check_schema)] = Field(
        default={"type": "object", "properties": {}}
    )
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


class ToolSubset(StrictBody):
    mode: Literal["auto", "required"]
    tools: Annotated[list[NamedTool], Field(min_length=1, max_length=MOST_TOOLS)]


class AllowedTools(StrictBody):
    """Some of the tools of a request, so that a conversation keeps the same tools while an answer may use fewer."""

    type: Literal["allowed_tools"]
    allowed_tools: ToolSubset


Word = Literal["none", "auto", "required"]


def _kind_of_choice(value: Any) -> str:
    """Return the tag of a choice, so that an error is about the one form that it has."""
    kind = value.get("type") if isinstance(value, dict) else getattr(value, "type", "word")
    return kind if kind in ("word", "allowed_tools") else "function"


ToolChoice = Annotated[
    Annotated[Word, Tag("word")]
    | Annotated[NamedTool, Tag("function")]
    | Annotated[AllowedTools, Tag("allowed_tools")],
    Discriminator(_kind_of_choice),
]


def names_in(choice: Word | NamedTool | AllowedTools) -> list[str] | None:
    """Return the names of the functions that *choice* allows; None if it names none."""
    if isinstance(choice, str):
        return None
    chosen = choice.allowed_tools.tools if isinstance(choice, AllowedTools) else [choice]
    return [each.function.name for each in chosen]


def is_forced(choice: Word | NamedTool | AllowedTools) -> bool:
    """Return whether an answer has to be a call."""
    if isinstance(choice, AllowedTools):
        return choice.allowed_tools.mode == "required"
    return isinstance(choice, NamedTool) or choice == "required"


def check_tools(tools: list[Tool]) -> list[Tool]:
    """Return *tools* if their names differ, and if the grammar of all of them has a bounded size."""
    names = [tool.function.name for tool in tools]
    if repeated := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(f"there are several functions {', '.join(repeated)}")
    parts = repetitions = 0
    for tool in tools:
        of_tool, repeated_of_tool = measure_schema(tool.function.parameters)
        parts, repetitions = parts + of_tool, repetitions + repeated_of_tool
    if parts > TOOL_PARTS or repetitions > MOST_REPETITIONS:
        limits = f"{TOOL_PARTS} values and {MOST_REPETITIONS} repetitions"
        raise ValueError(f"the parameters of all functions have {limits} together at most")
    return tools


def check_enforced(tool: Tool) -> None:
    """Check that a grammar enforces the schema of *tool*, which a forced call has.

    Raises:
        ValueError: it does not.
    """
    try:
        _arguments(tool)
    except ValueError as error:
        raise ValueError(f"tools: the parameters of {tool.function.name}: {error}") from None


def _arguments(tool: Tool) -> Mapping[str, Any]:
    """Return the form of the arguments of *tool*: always an object, and an empty one unless the schema has a say."""
    form = enforceable(tool.function.parameters)
    if form not in (ANY, ANY_OBJECT):
        return form
    # OpenAI's reference: a function without parameters has none. A small model would never end an object of all keys
    return ANY_OBJECT if tool.function.parameters.get("additionalProperties") else NO_ARGUMENTS


def call_schema(tools: Sequence[Tool]) -> dict[str, Any]:
    """Return the JSON Schema of a call of one of *tools*, without references."""
    return {
        "anyOf": [
            {
                "type": "object",
                "properties": {
                    "name": {"const": tool.function.name},
                    "arguments": _arguments(tool),
                },
                "required": ["name", "arguments"],
                "additionalProperties": False,
            }
            for tool in tools
        ],
    }


def read_call(text: str) -> dict[str, Any] | None:
    """Return the call that *text*, in the form of `call_schema`, is; None if it is too long, or too deep."""
    try:
        call = parse_json(text.encode(), CALL_BYTES)
    except InvalidData:
        return None
    function = {"name": call["name"], "arguments": to_json(call["arguments"]).decode()}
    return {"index": 0, "id": new_call_id(), "type": "function", "function": function}


def new_call_id() -> str:
    """Return a random id for a call, which every chat template takes."""
    return "".join(secrets.choice(string.ascii_letters + string.digits) for _ in range(9))


def join_calls(parts: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
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
