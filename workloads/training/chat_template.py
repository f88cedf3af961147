"""The prompt and the answer that a chat template makes of a conversation, with the thought of the answer.

Templates are written for prompts. Some leave the thought out of finished answers, though their prompts open one; some
know the thought by another field; some end an answer with the beginning of the next message. An answer is learned
after exactly the prompt that a server makes, and has its thought and its end.
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from workloads import foreign
from workloads.errors import Diagnostic, UserError

Message = Mapping[str, Any]
THOUGHTS = ("reasoning_content", "reasoning", "thinking", "thought")
"""Fields of a thought. Sources: DeepSeek's and Qwen's templates; OpenRouter; gpt-oss; others."""
OPEN, CLOSE = "<think>", "</think>"
OPENED = re.compile(r"<think>\s*$")
"""The end of a prompt that opens a thought, as those of DeepSeek-R1, Qwen3's thinking models and MiniMax-M2."""
INLINE = re.compile(r"\A\s*(?:<think>)?(.*?)</think>\s*", re.DOTALL)
"""The thought at the beginning of a content."""


class Answer(NamedTuple):
    """An answer as a chat template writes it."""

    prompt: str
    """The text that the model sees before the answer."""
    text: str
    """The answer with its end."""
    has_thought: bool
    """Whether the thought of the message, if it has one, is part of the text."""
    has_calls: bool
    """Whether the calls of functions in the message, if it has any, are part of the text."""


def answer_of(tokenizer: Any, messages: Sequence[Message], tools: Sequence[Any] | None) -> Answer:
    """Return the last message of *messages*, an answer, as the template of *tokenizer* writes it.

    Raises:
        UserError: The template refuses the conversation, or does not continue its prompt with the answer.
    """
    first: Exception | None = None
    for variant in _variants(messages):
        try:
            return _answer(tokenizer, variant, tools)
        except UserError:
            raise
        except Exception as error:  # a template raises as its author chose
            first = first or error
    problem = f"the chat template refuses a conversation: {first}"
    help = "Correct the conversation, or name another tokenizer"
    raise UserError(Diagnostic("data.tokenizer", problem, help=help)) from first


def _answer(tokenizer: Any, messages: list[Message], tools: Sequence[Any] | None) -> Answer:
    def render(rows: Sequence[Message], prompt: bool) -> str:
        text: str = tokenizer.apply_chat_template(rows, tools=tools, add_generation_prompt=prompt, tokenize=False)
        if shown := [each for each in _python_texts(rows) if each in text]:
            raise ValueError(f"the template writes the arguments of a call as Python does: {shown[0]}")
        return text

    thought, calls = thought_of(messages[-1]), _function_names(messages[-1])
    plain: Answer | None = None
    for form in _forms(messages, str(tokenizer.chat_template)):
        prompt, whole = render(form[:-1], True), render(form, False)
        if whole.startswith(prompt):
            text = whole[len(prompt) :]
            answer = Answer(prompt, text, not thought or thought in text, all(name in text for name in calls))
            if answer.has_thought:
                return answer
            plain = plain or answer
    without = [*messages[:-1], _with_thought(messages[-1], None)]
    prompt, whole = render(messages[:-1], True), render(without, False)
    if opened := OPENED.search(prompt):
        before = prompt[: opened.start()]
        if whole.startswith(before):
            written = whole[len(before) :]
            if written.startswith(OPEN):  # an empty thought in another form than that of the prompt
                written = written.partition(CLOSE)[2]
            text = f"{thought}\n{CLOSE}\n\n{written.lstrip()}"
            return Answer(prompt, text, True, all(name in written for name in calls))
    if plain:
        return plain
    problem = "the chat template does not continue its prompt with the answer"
    help = "Use a template whose add_generation_prompt writes the beginning of each answer"
    raise UserError(Diagnostic("data.tokenizer", problem, help=help))


def thought_of(message: Message) -> str:
    """Return the thought of *message*: that of a field, or that before ``</think>`` in its content; empty without."""
    for name in THOUGHTS:
        if isinstance(message.get(name), str) and message[name].strip():
            return str(message[name]).strip()
    content = message.get("content")
    inline = INLINE.match(content) if isinstance(content, str) else None
    return inline[1].strip() if inline else ""


def _function_names(message: Message) -> list[str]:
    """Return the names of the functions that *message* calls."""
    calls = [each.get("function", each) for each in message.get("tool_calls") or () if isinstance(each, dict)]
    return [str(each["name"]) for each in calls if isinstance(each, dict) and each.get("name")]


def _forms(messages: Sequence[Message], template: str) -> Iterator[list[Message]]:
    """Yield *messages* with the thoughts of answers in each place that *template* knows, and as they are."""
    thinks = any(map(thought_of, messages))
    places = [*(name for name in THOUGHTS if name in template), *([None] if CLOSE in template else [])]
    for name in places if thinks else ():
        yield [
            _with_thought(each, name, thought_of(each)) if each["role"] == "assistant" else each for each in messages
        ]
    yield list(messages)


def _with_thought(message: Message, name: str | None, thought: str = "") -> Message:
    """Return *message* with *thought* in the field *name*, or in its content; without a thought if that is empty."""
    content = message.get("content")
    bare = {key: value for key, value in message.items() if key not in THOUGHTS}
    if isinstance(content, str):
        bare["content"] = INLINE.sub("", content, count=1)
    if not thought:
        return bare
    if name:
        return bare | {name: thought}
    return bare | {"content": f"{OPEN}\n{thought}\n{CLOSE}\n\n{bare.get('content', '')}"}


def _variants(messages: Sequence[Message]) -> Iterator[list[Message]]:
    """Yield *messages* in each form of calls that templates expect: arguments as an object or as JSON, no content."""
    if not any(each.get("tool_calls") for each in messages):
        yield list(messages)
        return
    for arguments in (as_object, _as_text):
        for content in ({}, {"content": None}, {"content": ""}):
            yield [{**content, **_with_arguments(each, arguments)} if each.get("tool_calls") else each
                   for each in messages]  # fmt: skip


def _with_arguments(message: Message, convert: Callable[[Any], Any]) -> dict[str, Any]:
    """Return *message* with the arguments of its calls as *convert* returns them."""
    calls = []
    for call in message["tool_calls"]:
        inner = call.get("function") if isinstance(call, dict) else None
        if isinstance(inner, dict) and "arguments" in inner:
            call = {"type": "function", **call, "function": {**inner, "arguments": convert(inner["arguments"])}}
        calls.append(call)
    return {**message, "tool_calls": calls}


def as_object(arguments: Any) -> Any:
    """Return the *arguments* of a call as an object if they are JSON, otherwise as they are."""
    if not isinstance(arguments, str):
        return arguments
    try:
        return foreign.parse_json(arguments)
    except foreign.InvalidData:
        return arguments


def _as_text(arguments: Any) -> str:
    return arguments if isinstance(arguments, str) else json.dumps(arguments, ensure_ascii=False)


def _python_texts(messages: Sequence[Message]) -> Iterator[str]:
    """Yield the texts that Python has for the arguments of calls, where they are no JSON."""
    for message in messages:
        for call in message.get("tool_calls") or ():
            arguments = call.get("function", {}).get("arguments") if isinstance(call, dict) else None
            if isinstance(arguments, dict) and arguments:
                yield str(arguments)
