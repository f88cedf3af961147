"""The messages of conversations and preferences, as datasets write them, and what a run can read of them."""

from collections.abc import Mapping, Sequence
from typing import Any, TypeGuard

from workloads.foreign import excerpt
from workloads.training.chat_template import THOUGHTS, Message
from workloads.training.row_files import MalformedRow

FORM = "Write messages, each with role user or assistant and its content"
WRITTEN = ("system", "user", "assistant")
"""Roles whose messages have a content."""
ROLES = {*WRITTEN, "developer", "tool", "function", "ipython", "environment", "observation"}
"""Roles that chat templates write; the last ones are those of results of tools."""
CONTENTS = ("content", "tool_calls", *THOUGHTS)
UNREAD_ROW_KEYS: Mapping[str, str] = {
    "functions": 'Write tools, a list of {"type": "function", "function": …}',
    "chat_template_kwargs": "Remove it: an answer is learned after the prompt that a server makes without it",
    "documents": "Write their texts into a message: a server gets no documents",
}
"""Keys of a row that would change its prompt and are not read, and what to write in their place."""
UNREAD_KEYS: Mapping[str, str] = {
    "function_call": "Write tool_calls",
    **dict.fromkeys(("train", "train_detail", "training"), "Write weight 0 at an answer that is not learned"),
}
"""Keys of a message that would change what is learned and are not read. Sources: OpenAI's older API; Axolotl."""


def are_messages(value: Any) -> TypeGuard[list[Message]]:
    """Return whether *value* is a list of messages with a role each."""
    return isinstance(value, list) and all(isinstance(each, dict) and each.get("role") for each in value)


def check_row(row: Mapping[str, Any]) -> None:
    """Raise if *row* has a key that would change its prompts and that no run reads.

    Raises:
        MalformedRow: The key has a value.
    """
    for key, help in UNREAD_ROW_KEYS.items():
        if row.get(key):
            raise MalformedRow(f"the row has {key}, which is not read", help)
    if isinstance(row.get("tools"), str):
        raise MalformedRow("tools is a text", "Write a list of tools in its place")


def check_messages(messages: Sequence[Message]) -> None:
    """Raise unless each of *messages* has a known role, and a content, or calls or a thought in its place.

    Raises:
        MalformedRow: Templates leave a message out, fail at it, or write an empty answer; or a message has a weight
            or another key that cannot be followed.
    """
    for number, message in enumerate(messages, 1):
        name, role = f"message {number}", message["role"]
        if not isinstance(role, str) or role not in ROLES:
            problem = f"{name} has the role {excerpt(role)}, which chat templates leave out"
            raise MalformedRow(problem, f"Write one of {', '.join(sorted(ROLES))}")
        for key, help in UNREAD_KEYS.items():
            if message.get(key) is not None:
                raise MalformedRow(f"{name} has {key}, which is not read", help)
        content = message.get("content")
        if role in WRITTEN and not (content is None or isinstance(content, str) or _are_texts(content)):
            problem = f"{name} has a content that is neither a text nor a list of texts"
            raise MalformedRow(problem, 'Write a text, or [{"type": "text", "text": …}]: images are not learned')
        if role in WRITTEN and not any(message.get(key) is not None for key in CONTENTS):
            raise MalformedRow(f"{name} has no content", "Write its content, or remove the conversation")
        if role == "assistant" and not any(_text(message.get(key)) for key in CONTENTS):
            raise MalformedRow(f"{name} is an empty answer", "Write the answer, or remove the conversation")
        weight = message.get("weight")  # source: the format of OpenAI's fine-tuning
        if weight is not None and (isinstance(weight, bool) or weight not in (0, 1)):
            problem = f"{name} has the weight {excerpt(weight)}"
            raise MalformedRow(problem, "Write 1 for an answer that is learned, and 0 for one that is not")
        if weight == 1 and role != "assistant":
            raise MalformedRow(
                f"{name} has the weight 1 and the role {role}", "Remove the weight: answers alone have one"
            )


def is_learned(message: Message) -> bool:
    """Return whether *message* is an answer that is learned."""
    return bool(message["role"] == "assistant" and message.get("weight", 1) != 0)


def for_templates(messages: Sequence[Message]) -> list[Message]:
    """Return *messages* as a server gives them to chat templates, most of which would print a list as it is.

    They have no fields that are null, which a Parquet file has for fields of other messages, and the texts of a
    content are one text.
    """
    return [
        {name: _text(value) if name == "content" else value for name, value in message.items() if value is not None}
        for message in messages
    ]


def _are_texts(content: Any) -> bool:
    return isinstance(content, list) and all(
        isinstance(each, dict) and each.get("type") == "text" and isinstance(each.get("text"), str) for each in content
    )


def _text(content: Any) -> Any:
    """Return the text of a list of texts, and any other *content* as it is."""
    return "".join(each["text"] for each in content) if _are_texts(content) else content
