"""The record of a conversation or preference for differential privacy: what a model learns from it, in one form.

Two rows that differ in their spelling alone, such as arguments as text or as an object, are one record. Keys that no
chat template reads are no part of it.
"""

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from workloads.foreign import excerpt
from workloads.training import rows
from workloads.training.chat_template import INLINE, THOUGHTS, Message, as_object, thought_of

MESSAGE_KEYS = {"role", "content", "name", "tool_call_id", "tool_calls", "weight", *THOUGHTS}
PART_KEYS = {"type", "text"}
CALL_KEYS = {"id", "type", "function", "name", "arguments"}
FUNCTION_KEYS = {"name", "arguments"}
SHOWN_KEYS = 5
"""Keys that an error or a note names."""


class RecordDigests(NamedTuple):
    """SHA-256 digests by which a record is known: it is the same as each record that shares one of them."""

    content: bytes
    """Digest of what is learnt, before any chat template."""
    tokens: bytes
    """Digest of the tokens of all its examples."""


def digests(content: Iterable[Any], examples: Iterable[Sequence[int]]) -> RecordDigests:
    """Return the digests of the record with this canonical *content*, whose *examples* have these tokens."""
    tokens = hashlib.sha256()
    for each in examples:
        tokens.update(len(each).to_bytes(8, "little") + np.asarray(each, "<i8").tobytes())
    return RecordDigests(rows.source_digest([*content]), tokens.digest())


def canonical(messages: Iterable[Message], tools: Sequence[Any] | None) -> list[Any]:
    """Return what is learnt from *messages*: role, text, thought and calls of each, and *tools*.

    Names and numbers of calls are left out, as are blanks at both ends of a text: rows that differ in them alone are
    one record.
    """
    return [[_canonical_message(each) for each in messages], tools or []]


def unread_keys(messages: Iterable[Message]) -> Iterator[str]:
    """Yield the keys of *messages*, and of their parts and calls, that no chat template is known to read."""
    for message in messages:
        yield from _others(message, MESSAGE_KEYS, "")
        content = message.get("content")
        for part in content if isinstance(content, list) else ():
            yield from _others(part, PART_KEYS, "content.")
        for call in _calls(message):
            yield from _others(call, CALL_KEYS, "tool_calls.")
            yield from _others(call.get("function"), FUNCTION_KEYS, "tool_calls.function.")


def describe_keys(unread: Iterable[str]) -> str:
    """Return the first of the *unread* keys, for a person."""
    named = sorted(unread)
    return ", ".join(map(excerpt, named[:SHOWN_KEYS])) + (", …" if len(named) > SHOWN_KEYS else "")


def _others(value: Any, known: set[str], place: str) -> Iterator[str]:
    if isinstance(value, Mapping):
        yield from (f"{place}{key}" for key, each in value.items() if key not in known and each is not None)


def _canonical_message(message: Message) -> list[Any]:
    text, thought = _text(message.get("content")), ""
    if message["role"] == "assistant":
        thought = thought_of({**message, "content": text})
        text = INLINE.sub("", text, count=1).strip() if isinstance(text, str) else text
    return [message["role"], text, thought, [_canonical_call(each) for each in _calls(message)]]


def _text(content: Any) -> Any:
    """Return *content* without blanks at its ends; its text if all of its parts are text."""
    if isinstance(content, list) and all(
        isinstance(each, dict) and isinstance(each.get("text"), str) for each in content
    ):
        content = "".join(each["text"] for each in content)
    return content.strip() if isinstance(content, str) else content or ""


def _calls(message: Message) -> list[Any]:
    calls = message.get("tool_calls")
    return [each for each in calls if isinstance(each, dict)] if isinstance(calls, list) else []


def _canonical_call(call: Mapping[str, Any]) -> list[Any]:
    function = call.get("function")
    inner = function if isinstance(function, dict) else call
    return [inner.get("name"), as_object(inner.get("arguments"))]
