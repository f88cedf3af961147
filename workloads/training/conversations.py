"""Conversations in JSON Lines or Parquet, as tokens of a model's chat template, of which the answers are learned.

Several conversations share a row of tokens if the model keeps them apart, which the module `isolation` proves: most
models of transformers divide a row where positions begin again.
"""

from bisect import bisect_left, insort
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from workloads.errors import Diagnostic, UserError
from workloads.foreign import parse_object, read_file
from workloads.training import records, rows
from workloads.training.chat_template import Message, answer_of
from workloads.training.config import Conversations, Preferences, Tasks
from workloads.training.messages import (
    FORM,
    are_messages,
    check_messages,
    check_row,
    for_templates,
    is_learned,
)
from workloads.training.records import RecordDigests
from workloads.training.row_files import MalformedRow, name_place, read_rows
from workloads.training.tokenizer import load_tokenizer

NOT_LEARNED = -100
"""The answer at a position that is not learned. Source: ``ignore_index`` of torch.nn.functional.cross_entropy."""
EXPECTED = 'objects such as {"messages": [{"role": "user", "content": "…"}, {"role": "assistant", …}]}'
THOUGHT = "thoughts that the chat template does not write"
CALLS = "answers whose calls the chat template does not write"
TOO_LONG = "conversations longer than sequence_length"
NO_ANSWER = "conversations without an answer that the chat template writes"
NO_WEIGHT = "conversations whose answers have weight 0"
GREETING = "answers before the first question, which no prompt precedes"
FIRST_LINE_BYTES = 1 << 16
"""Bytes at the beginning of a text that are looked at for a conversation in JSON."""

# Shape letters: N rows of tokens, S positions of a row.


class TokenRange(NamedTuple):
    shortest: int
    longest: int

    def __str__(self) -> str:
        return (
            f"{self.shortest} tokens" if self.shortest == self.longest else f"{self.shortest} to {self.longest} tokens"
        )


class Conversation(NamedTuple):
    messages: list[Message]
    tools: list[Any] | None
    """Descriptions of functions that the chat template shows to the model."""


class Tokens(NamedTuple):
    """A conversation, or its beginning up to an answer."""

    tokens: list[int]
    learned: list[bool]
    """Whether the model learns to write each token."""


class PackedConversations(NamedTuple):
    x: Tensor
    """Tokens, and their positions in their conversation, [N, 2, S]; tokens alone, [N, S], of one conversation a row."""
    y_NS: Tensor
    """The token that comes next, or `NOT_LEARNED`."""


class ConversationData(NamedTuple):
    """The data of a run, and what it leaves out."""

    training: PackedConversations
    held_out: PackedConversations
    left_out: Mapping[str, int]
    """Number of rows and parts of rows that nothing learns from, by the reason."""
    lengths: Mapping[str, TokenRange]
    """Lengths of what is left out for its length, by the reason."""
    records_N: Tensor | None
    """Number of the conversation of each row to train on; None if rows share conversations."""
    persons_N: Tensor | None
    """Number of the person of each row to train on; None unless all conversations to train on name one."""
    names: tuple[str, ...]
    """Name of each person, by number."""
    sources_N: tuple[RecordDigests, ...]
    """Digests of the conversation of each row to train on; empty if rows share conversations."""
    unread: frozenset[str]
    """Keys of messages to train on that no chat template reads."""
    counts: tuple[int, int]
    """Number of examples to train on and of held out ones, before they share rows."""


def load(config: Conversations) -> ConversationData:
    """Return the conversations to train on, those that the run does not train on, and the number of those left out.

    Conversations share rows only if ``packed`` is true.

    Raises:
        UserError: A file is missing or malformed, or no conversation fits ``sequence_length``.
    """
    tokenizer = load_chat_tokenizer(config.tokenizer)
    parts: tuple[list[Tokens], list[Tokens]] = ([], [])
    numbers: list[int] = []
    persons: list[str | None] = []
    sources: list[RecordDigests] = []
    unread: set[str] = set()
    left_out: Counter[str] = Counter()
    lengths: dict[str, TokenRange] = {}
    for number, (place, (conversation, person)) in enumerate(read_rows(config, _parse_with_person, EXPECTED)):
        is_held_out = rows.is_held_out(conversation, config.held_out)
        with name_place(place):
            examples = tokenize(tokenizer, conversation, left_out=left_out)
        if not examples:
            left_out[NO_ANSWER if any(map(is_learned, conversation.messages)) else NO_WEIGHT] += 1
        fitting = [each for each in examples if len(each.tokens) - 1 <= config.sequence_length]
        is_too_long = len(fitting) < len(examples)
        left_out[TOO_LONG] += is_too_long  # its end would be cut, and models learn endings
        if is_too_long:
            widen(lengths, TOO_LONG, max(len(each.tokens) for each in examples) - 1)
        parts[is_held_out].extend(fitting)
        if not is_held_out:
            numbers += [number] * len(fitting)
            persons += [person] * len(fitting)
            content = records.canonical(conversation.messages, conversation.tools)
            sources += [records.digests(content, (each.tokens for each in fitting))] * len(fitting)
            unread |= {*records.unread_keys(conversation.messages)}
    left_out = +left_out
    if not parts[False]:
        raise nothing_to_learn(config, "conversation", len(parts[True]), left_out, lengths)
    arrange = pack if config.packed is True else pad
    length = config.sequence_length
    training, held_out = (arrange(each, length) for each in parts)
    counts = len(parts[False]), len(parts[True])
    if config.packed is True:
        return ConversationData(training, held_out, left_out, lengths, None, None, (), (), frozenset(unread), counts)
    known = {person: number for number, person in enumerate(dict.fromkeys(persons))}
    named = None if None in known else torch.tensor([known[person] for person in persons])
    names = () if named is None else tuple(str(each) for each in known)
    return ConversationData(
        training, held_out, left_out, lengths, torch.tensor(numbers), named, names, (*sources,), frozenset(unread),
        counts,
    )  # fmt: skip


def describe(left_out: Mapping[str, int], lengths: Mapping[str, TokenRange]) -> str:
    """Return *left_out* as text, with the lengths of what is too long."""
    return ", ".join(
        f"{number} {reason} ({lengths[reason]})" if reason in lengths else f"{number} {reason}"
        for reason, number in left_out.items()
    )


def widen(lengths: dict[str, TokenRange], reason: str, length: int) -> None:
    """Add the *length* of a thing that is left out for *reason* to *lengths*."""
    shortest, longest = lengths.get(reason, (length, length))
    lengths[reason] = TokenRange(min(shortest, length), max(longest, length))


def nothing_to_learn(
    config: Conversations | Preferences | Tasks,
    name: str,
    held_out: int,
    left_out: Mapping[str, int],
    lengths: Mapping[str, TokenRange],
) -> UserError:
    """Return the error of data of which no row is left to train on.

    Args:
        name: Singular of the data.
        held_out: Number of examples that are held out.
        lengths: Lengths of what is too long, by its only reason.
    """
    reserved = config.answer_tokens if isinstance(config, Tasks) else 0
    fits = f"fits {config.sequence_length - reserved} tokens"
    if held_out:
        problem = f"no {name} in {config.path} that {fits} is trained on, since {held_out} are held out"
        help = f"Set a smaller share, or add {name}s"
        return UserError(Diagnostic("data.held_out", problem, help=help, note=describe(left_out, lengths)))
    help = f"Name other {name}s"
    for shortest, longest in lengths.values():
        help = f"Set {shortest + reserved} for the shortest or {longest + reserved} for all, or name other {name}s"
    problem = f"no {name} in {config.path} {fits}; {describe(left_out, lengths)}"
    return UserError(Diagnostic("data.sequence_length", problem, help=help))


def load_chat_tokenizer(directory: str) -> Any:
    """Return the tokenizer in *directory*, which has a chat template.

    Raises:
        UserError: The directory has no such tokenizer.
    """
    tokenizer = load_tokenizer(directory)
    if not tokenizer.chat_template:
        problem = f"the tokenizer in {directory} has no chat template"
        help = "Name the directory of a chat model"
        raise UserError(Diagnostic("data.tokenizer", problem, "a chat_template", help))
    return tokenizer


def has_messages(content: bytes) -> bool:
    """Return whether the first line is a conversation in JSON."""
    first = content[:FIRST_LINE_BYTES].lstrip().partition(b"\n")[0]
    try:
        return "messages" in parse_object(first, lenient=True)
    except ValueError:
        return False


def read(config: Conversations) -> Iterator[Conversation]:
    """Yield the conversations of all files, in the order of their names.

    Raises:
        UserError: A file is missing or malformed; the error lists the first problems of all files.
    """
    return (conversation for _, conversation in read_rows(config, _parse, EXPECTED))


def _parse(row: Any) -> Conversation:
    """Return the conversation of *row*.

    Raises:
        ValueError: The row is no conversation to learn from.
    """
    messages = row.get("messages") if isinstance(row, dict) else None
    if not are_messages(messages):
        if isinstance(row, dict) and _is_sharegpt(row.get("conversations")):
            problem = "the row has the form of ShareGPT: conversations with from and value"
            raise MalformedRow(problem, FORM)
        raise MalformedRow("the row has no list of messages with a role each", FORM)
    check_row(row)
    check_messages(messages)
    if not any(each["role"] == "assistant" for each in messages):
        raise MalformedRow("the conversation has no answer: no message has role assistant", FORM)
    return Conversation(for_templates(messages), row.get("tools") or None)


def _parse_with_person(row: Any) -> tuple[Conversation, str | None]:
    """Return the conversation of *row*, and its key ``person``.

    Raises:
        ValueError: The row is no conversation to learn from, or its person is no text.
    """
    conversation, person = _parse(row), row.get("person")
    if person is not None and not isinstance(person, str):
        raise ValueError("the key person is no text")
    return conversation, person


def _is_sharegpt(value: Any) -> bool:
    """Return whether *value* is a list of messages as ShareGPT has them."""
    return isinstance(value, list) and any(
        isinstance(each, dict) and {"from", "value"} <= each.keys() for each in value
    )


def tokenize(
    tokenizer: Any, conversation: Conversation, first: int = 0, left_out: Counter[str] | None = None
) -> list[Tokens]:
    """Return the tokens of *conversation*, of which the model learns each answer with its thought and its end.

    A template that changes earlier messages, as those that drop earlier reasoning, gives one result for each answer:
    the model learns each answer after exactly what it will see. Three sorts of answers are not learned: one of weight
    0, one before the first question, for which a server has no prompt, and one whose calls of functions the template
    does not write.

    Args:
        first: Number of the first message that may be learned.
        left_out: Counter of what is not learned, by the reason.
    """
    answers = [n for n, message in enumerate(conversation.messages) if is_learned(message) and n >= first]
    if answers[:1] == [0]:
        del answers[0]
        if left_out is not None:
            left_out[GREETING] += 1
    turns = [turn for answer in answers if (turn := _turn(tokenizer, conversation, answer, left_out))]
    if not turns:
        return []
    whole, learned = turns[-1].tokens, [False] * len(turns[-1].tokens)
    for turn in turns:
        if whole[: len(turn.tokens)] != turn.tokens:
            return turns
        for n, in_turn in enumerate(turn.learned):
            learned[n] |= in_turn
    return [Tokens(whole, learned)]


def _turn(tokenizer: Any, conversation: Conversation, answer: int, left_out: Counter[str] | None) -> Tokens | None:
    """Return the tokens up to message number *answer*, which is learned; None if the template leaves out its calls.

    Raises:
        UserError: The template does not continue the prompt with the answer.
    """
    rendered = answer_of(tokenizer, conversation.messages[: answer + 1], conversation.tools)
    if left_out is not None:
        left_out.update([THOUGHT] * (not rendered.has_thought) + [CALLS] * (not rendered.has_calls))
    if not rendered.has_calls:
        return None
    before = encode(tokenizer, rendered.prompt)
    tokens = encode(tokenizer, rendered.prompt + rendered.text)
    if tokens[: len(before)] != before:  # a token would lie across the end of the prompt, which no server sends
        tokens = [*before, *encode(tokenizer, rendered.text)]
        if decode(tokenizer, tokens) != decode(tokenizer, encode(tokenizer, rendered.prompt + rendered.text)):
            problem = "the tokens of an answer change its text where it follows the prompt"
            raise UserError(Diagnostic("data.tokenizer", problem, help="Name the tokenizer of a chat model"))
    end = _end(tokenizer, tokens, len(before))
    if end is not None:
        tokens = tokens[: end + 1]  # no model writes the line feed after it
    elif tokenizer.eos_token_id is not None:
        tokens.append(tokenizer.eos_token_id)
    return Tokens(tokens, [n >= len(before) for n in range(len(tokens))])


def _end(tokenizer: Any, tokens: Sequence[int], first: int) -> int | None:
    """Return the place of the token at which a server ends the answer; None if the template writes none.

    It is among the marks and blanks at the end of the answer: the first at which the model ends by its configuration,
    else the last mark.

    Args:
        first: Place of the first token of the answer.
    """
    marks = {*tokenizer.all_special_ids}
    marks |= {number for number, token in tokenizer.added_tokens_decoder.items() if token.special}
    tail = len(tokens)
    while tail > first and (tokens[tail - 1] in marks or not decode(tokenizer, tokens[tail - 1 : tail]).strip()):
        tail -= 1
    ending = stops(tokenizer.name_or_path) | {tokenizer.eos_token_id}
    known = next((n for n in range(tail, len(tokens)) if tokens[n] in ending), None)
    return (
        known if known is not None else max((n for n in range(tail, len(tokens)) if tokens[n] in marks), default=None)
    )


@cache
def stops(directory: str) -> frozenset[int]:
    """Return the tokens at which the model in *directory* ends, by its generation_config.json; none without one."""
    try:
        stops = parse_object(read_file(Path(directory) / "generation_config.json")).get("eos_token_id")
    except (OSError, ValueError):
        return frozenset()
    return frozenset(each for each in (stops if isinstance(stops, list) else [stops]) if isinstance(each, int))


def encode(tokenizer: Any, text: str) -> list[int]:
    """Return the tokens of *text*, in which marks are the tokens that the template means."""
    tokens: list[int] = tokenizer(text, add_special_tokens=False)["input_ids"]
    return tokens


def decode(tokenizer: Any, tokens: Sequence[int]) -> str:
    """Return the text of *tokens*, with their marks."""
    return str(tokenizer.decode(tokens, skip_special_tokens=False, clean_up_tokenization_spaces=False))


def pack(conversations: Sequence[Tokens], length: int) -> PackedConversations:
    """Return *conversations* in as few rows of *length* tokens as best fit, the longest first, finds.

    Source: D. S. Johnson et al. 1974, doi:10.1137/0203025: at most 11/9 of the fewest rows and 4 more.
    """
    order = sorted(range(len(conversations)), key=lambda n: -len(conversations[n].tokens))
    packed: list[list[int]] = []
    free: list[tuple[int, int]] = []
    """Free tokens of each row, and its number."""
    for n in order:
        size = len(conversations[n].tokens) - 1
        place = bisect_left(free, (size, -1))
        room, row = free.pop(place) if place < len(free) else (length, len(packed))
        if row == len(packed):
            packed.append([])
        packed[row].append(n)
        insort(free, (room - size, row))
    x, y = np.zeros((len(packed), 2, length), np.int32), np.full((len(packed), length), NOT_LEARNED, np.int32)
    for row, members in enumerate(packed):
        first = 0
        for n in members:
            tokens, learned = conversations[n]
            end = first + len(tokens) - 1
            x[row, 0, first:end], x[row, 1, first:end] = tokens[:-1], range(end - first)
            y[row, first:end] = np.where(learned[1:], tokens[1:], NOT_LEARNED)
            first = end
        x[row, 1, first:] = range(length - first)  # the rest is a conversation of its own, without answers
    return PackedConversations(torch.from_numpy(x), torch.from_numpy(y))


def pad(conversations: Sequence[Tokens], length: int) -> PackedConversations:
    """Return *conversations* with a row of *length* tokens for each; none sees the tokens after its end."""
    x = np.zeros((len(conversations), length), np.int32)
    y = np.full((len(conversations), length), NOT_LEARNED, np.int32)
    for row, (tokens, learned) in enumerate(conversations):
        end = len(tokens) - 1
        x[row, :end], y[row, :end] = tokens[:-1], np.where(learned[1:], tokens[1:], NOT_LEARNED)
    return PackedConversations(torch.from_numpy(x), torch.from_numpy(y))
