"""Conversations in JSON Lines or Parquet, as tokens of a model's chat template, of which the answers are learned.

Several conversations share a row of tokens if the model keeps them apart, which the module `isolation` proves: most
models of transformers divide a row where positions begin again.
"""

import hashlib
import io
from bisect import bisect_left, insort
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, TypeGuard, TypeVar

import numpy as np
import torch
from torch import Tensor

from workloads.errors import Diagnostic, UserError
from workloads.foreign import open_regular, parse_json, parse_object, read_file, read_whole
from workloads.masking_report import report_problem, sha256_of
from workloads.training import records, rows
from workloads.training.chat_template import Message, answer_of
from workloads.training.config import Conversations, MaskedBy, Preferences, Tasks
from workloads.training.records import RecordDigests
from workloads.training.tokenizer import load_tokenizer

LINE_BYTES = 64 << 20
"""Maximum length of a line; a longer one is read in parts, which are no JSON."""
NOT_LEARNED = -100
"""The answer at a position that is not learned. Source: ``ignore_index`` of torch.nn.functional.cross_entropy."""
SHOWN_PROBLEMS = 5
PARQUET = ".parquet"
EXPECTED = 'objects such as {"messages": [{"role": "user", "content": "…"}, {"role": "assistant", …}]}'
THOUGHT = "thoughts that the chat template does not write"
CALLS = "answers whose calls the chat template does not write"
TOO_LONG = "conversations longer than sequence_length"
NO_ANSWER = "conversations without an answer that the chat template writes"

T = TypeVar("T")
# Shape letters: N rows of tokens, S positions of a row.


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
    for number, (conversation, person) in enumerate(read_rows(config, _parse_with_person, EXPECTED)):
        is_held_out = rows.is_held_out(conversation, config.held_out)
        examples = tokenize(tokenizer, conversation, left_out=left_out)
        left_out[NO_ANSWER] += not examples
        fitting = [each for each in examples if len(each.tokens) - 1 <= config.sequence_length]
        left_out[TOO_LONG] += len(fitting) < len(examples)  # its end would be cut, and models learn endings
        parts[is_held_out].extend(fitting)
        if not is_held_out:
            numbers += [number] * len(fitting)
            persons += [person] * len(fitting)
            content = records.canonical(conversation.messages, conversation.tools)
            sources += [records.digests(content, (each.tokens for each in fitting))] * len(fitting)
            unread |= {*records.unread_keys(conversation.messages)}
    left_out = +left_out
    if not parts[False]:
        problem = (
            f"no conversation in {config.path} fits {config.sequence_length} tokens; {describe(left_out) or 'none'}"
        )
        raise UserError(Diagnostic("data.sequence_length", problem, help="Increase it, or name other conversations"))
    place = pack if config.packed is True else pad
    length = config.sequence_length
    training, held_out = (place(each, length) for each in parts)
    if config.packed is True:
        return ConversationData(training, held_out, left_out, None, None, (), (), frozenset())
    known = {person: number for number, person in enumerate(dict.fromkeys(persons))}
    named = None if None in known else torch.tensor([known[person] for person in persons])
    names = () if named is None else tuple(str(each) for each in known)
    return ConversationData(
        training, held_out, left_out, torch.tensor(numbers), named, names, (*sources,), frozenset(unread)
    )


def describe(left_out: Mapping[str, int]) -> str:
    """Return *left_out* as text."""
    return ", ".join(f"{number} {reason}" for reason, number in left_out.items())


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


def read(config: Conversations) -> Iterator[Conversation]:
    """Yield the conversations of all files, in the order of their names.

    Raises:
        UserError: A file is missing or malformed; the error lists the first problems of all files.
    """
    return read_rows(config, _parse, EXPECTED)


def read_rows(config: Conversations | Preferences | Tasks, parse: Callable[[Any], T], expected: str) -> Iterator[T]:
    """Yield the rows of all files, in the order of their names, as *parse* returns them.

    Args:
        parse: Function of the JSON value of a row; it raises ValueError for a malformed one.
        expected: Description of a row, for the error.

    Raises:
        UserError: A file is missing or malformed; the error lists the first problems of all files.
    """
    path = Path(config.path)
    files = sorted(path.glob(config.pattern)) if path.is_dir() else [path]
    if not files:
        problem = f"{path} has no file {config.pattern}"
        raise UserError(Diagnostic("data.pattern", problem, help="Correct the path or the pattern"))
    digests = _require_masked(path, files, config.masked_by) if config.masked_by else {}
    problems: list[str] = []
    for place, row in chain.from_iterable(_rows(file, digests.get(file)) for file in files):
        try:
            if isinstance(row, ValueError):
                raise ValueError(f"the line is no JSON: {row}")
            parsed = parse(row)
        except ValueError as error:
            problems.append(f"{place}: {error}")
            if len(problems) == SHOWN_PROBLEMS:
                break
        else:
            yield parsed
    if problems:
        raise UserError(*(Diagnostic("data.path", each, expected, "Correct the row") for each in problems))


def _require_masked(path: Path, files: Sequence[Path], masked_by: MaskedBy) -> dict[Path, str]:
    """Return the digests of *files* if they are those that the masking policy made, as the report beside them says.

    Raises:
        UserError: They are not, or there is no such report.
    """
    try:
        digests = {file: sha256_of(file) for file in files}
        problem = report_problem(path, digests, masked_by.sha256)
    except OSError as error:
        problem = f"a file cannot be read: {error.strerror}"
    if problem:
        expected = f"data with their report of the policy {masked_by.policy}, {masked_by.sha256[:12]}…"
        help = "Copy the output of `rackwright mask` and its report here"
        raise UserError(Diagnostic("data.masked_by", f"{path}: {problem}", expected, help))
    return digests


def _open(file: Path, sha256: str | None) -> BinaryIO:
    """Return *file*, opened for reading; with *sha256* its content in memory, which has that digest.

    Raises:
        OSError: The file cannot be read.
        UserError: It has another content: it changed after its digest was compared with the report.
    """
    if sha256 is None:
        return open_regular(file, follow=True)
    content = read_whole(file)
    if hashlib.sha256(content).hexdigest() != sha256:
        problem = f"{file} changed after its digest was compared with the report"
        raise UserError(Diagnostic("data.masked_by", problem, "files that stay as they are", "Copy the data again"))
    return io.BytesIO(content)


def _rows(file: Path, sha256: str | None = None) -> Iterator[tuple[str, Any]]:
    """Yield each row of *file* with its place; a row that is no JSON is its error.

    Args:
        sha256: Digest of the content; None for any content.
    """
    try:
        if file.suffix == PARQUET:
            from pyarrow import parquet

            batches = parquet.ParquetFile(_open(file, sha256)).iter_batches()
            for number, row in enumerate(chain.from_iterable(batch.to_pylist() for batch in batches), 1):
                yield f"{file}, row {number}", row
            return
        with io.TextIOWrapper(_open(file, sha256), encoding="utf-8") as lines:
            for number, line in enumerate(iter(lambda: lines.readline(LINE_BYTES), ""), 1):
                if line.strip():
                    try:
                        yield f"{file}:{number}", parse_json(line, LINE_BYTES, lenient=True)
                    except ValueError as error:
                        yield f"{file}:{number}", error
    except (OSError, ValueError) as error:  # pyarrow's errors are ValueErrors
        problem = f"{file} cannot be read: {error}"
        help, note = "Copy the file to this host, as JSON Lines or Parquet", "every host of the run reads it"
        raise UserError(Diagnostic("data.path", problem, help=help, note=note)) from error


def _parse(row: Any) -> Conversation:
    """Return the conversation of *row*.

    Raises:
        ValueError: The row is no conversation to learn from.
    """
    messages = row.get("messages") if isinstance(row, dict) else None
    if not are_messages(messages):
        raise ValueError("the row has no list of messages with a role each")
    if not any(each["role"] == "assistant" for each in messages):
        raise ValueError("the conversation has no answer: no message has role assistant")
    return Conversation(without_nulls(messages), row.get("tools") or None)


def _parse_with_person(row: Any) -> tuple[Conversation, str | None]:
    """Return the conversation of *row*, and its key ``person``.

    Raises:
        ValueError: The row is no conversation to learn from, or its person is no text.
    """
    conversation, person = _parse(row), row.get("person")
    if person is not None and not isinstance(person, str):
        raise ValueError("the key person is no text")
    return conversation, person


def are_messages(value: Any) -> TypeGuard[list[Message]]:
    """Return whether *value* is a list of messages with a role each."""
    return isinstance(value, list) and all(isinstance(each, dict) and each.get("role") for each in value)


def without_nulls(messages: Sequence[Message]) -> list[Message]:
    """Return *messages* without fields that are null, which a Parquet file has for fields of other messages."""
    return [{name: value for name, value in message.items() if value is not None} for message in messages]


def tokenize(
    tokenizer: Any, conversation: Conversation, first: int = 0, left_out: Counter[str] | None = None
) -> list[Tokens]:
    """Return the tokens of *conversation*, of which the model learns each answer with its thought and its end.

    A template that changes earlier messages, as those that drop earlier reasoning, gives one result for each answer:
    the model learns each answer after exactly what it will see. An answer whose calls of functions the template does
    not write is not learned.

    Args:
        first: Number of the first message that may be learned.
        left_out: Counter of what is not learned, by the reason.
    """
    roles = [message["role"] for message in conversation.messages]
    answers = [n for n, role in enumerate(roles) if role == "assistant" and n >= first]
    turns = [turn for answer in answers if (turn := _turn(tokenizer, conversation, answer, left_out))]
    if not turns:
        return []
    whole, learned = turns[-1].tokens, [False] * len(turns[-1].tokens)
    for turn in turns:
        if whole[: len(turn.tokens)] != turn.tokens:
            return turns
        for n, is_learned in enumerate(turn.learned):
            learned[n] |= is_learned
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
