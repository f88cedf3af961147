"""Preferences in JSON Lines or Parquet: a prompt, a chosen and a rejected answer, as tokens of a chat template."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from workloads.errors import Diagnostic, UserError
from workloads.training import records, rows
from workloads.training.chat_template import Message
from workloads.training.config import Preferences
from workloads.training.conversations import (
    NOT_LEARNED,
    Conversation,
    TokenRange,
    Tokens,
    load_chat_tokenizer,
    nothing_to_learn,
    tokenize,
    widen,
)
from workloads.training.messages import are_messages, check_messages, check_row, for_templates
from workloads.training.records import RecordDigests
from workloads.training.row_files import name_place, read_rows

EXPECTED = 'objects such as {"prompt": "…", "chosen": "…", "rejected": "…"}, of texts or of lists of messages'
# Shape letters: N pairs, 2 answers of a pair, the chosen one first, S positions of a prompt with its answer.


class Preference(NamedTuple):
    """A prompt, and two continuations of it."""

    prompt: list[Message]
    chosen: list[Message]
    rejected: list[Message]
    tools: list[Any] | None
    """Descriptions of functions that the chat template shows to the model."""


TOO_LONG = "pairs longer than sequence_length"
SAME = "pairs of two equal answers"


class Pairs(NamedTuple):
    x_N2S: Tensor
    """Tokens of the prompt and the answer."""
    y_N2S: Tensor
    """The token of the answer that comes next, or `NOT_LEARNED`."""


class PreferenceData(NamedTuple):
    """The data of a run, and what it leaves out."""

    training: Pairs
    held_out: Pairs
    left_out: Mapping[str, int]
    """Number of pairs and thoughts that nothing learns from, by the reason."""
    lengths: Mapping[str, TokenRange]
    """Lengths of the pairs that are too long."""
    sources: tuple[RecordDigests, ...]
    """Digests of each preference to train on."""
    unread: frozenset[str]
    """Keys of messages to train on that no chat template reads."""


def load(config: Preferences) -> PreferenceData:
    """Return the pairs to train on, those that the run does not train on, and the number of those left out.

    Raises:
        UserError: A file is missing or malformed, or no pair fits ``sequence_length``.
    """
    tokenizer = load_chat_tokenizer(config.tokenizer)
    parts: tuple[list[tuple[Tokens, Tokens]], list[tuple[Tokens, Tokens]]] = ([], [])
    left_out: Counter[str] = Counter()
    lengths: dict[str, TokenRange] = {}
    sources: list[RecordDigests] = []
    unread: set[str] = set()
    for place, each in read_rows(config, parse, EXPECTED):
        is_held_out = rows.is_held_out([each.prompt, each.tools], config.held_out)
        with name_place(place):
            pair = _tokens(tokenizer, each, each.chosen, left_out), _tokens(tokenizer, each, each.rejected, left_out)
        if max(len(answer.tokens) for answer in pair) - 1 > config.sequence_length:
            left_out[TOO_LONG] += 1
            widen(lengths, TOO_LONG, max(len(answer.tokens) for answer in pair) - 1)
        elif pair[0] == pair[1]:  # nothing tells which is preferred
            left_out[SAME] += 1
        else:
            parts[is_held_out].append(pair)
            if not is_held_out:
                sources.append(records.digests(_canonical(each), (answer.tokens for answer in pair)))
                unread |= {*records.unread_keys([*each.prompt, *each.chosen, *each.rejected])}
    if not parts[False]:
        raise nothing_to_learn(config, "pair", len(parts[True]), left_out, lengths)
    training, held_out = (pad(each, config.sequence_length) for each in parts)
    return PreferenceData(training, held_out, left_out, lengths, (*sources,), frozenset(unread))


def _canonical(preference: Preference) -> list[Any]:
    """Return what is learnt from *preference*, wherever its prompt ends."""
    answers = (preference.chosen, preference.rejected)
    return [records.canonical([*preference.prompt, *answer], preference.tools) for answer in answers]


def parse(row: Any) -> Preference:
    """Return the preference of *row*.

    A text is one message: of the user in a prompt, of the assistant in an answer. Answers may repeat the prompt, which
    may then be absent, as in the formats of TRL.

    Raises:
        ValueError: The row is no preference.
    """
    if not isinstance(row, dict):
        raise ValueError("the row is no object")
    prompt = messages_of(row, "prompt" if row.get("prompt") else "messages", "user")
    chosen, rejected = (messages_of(row, name, "assistant") for name in ("chosen", "rejected"))
    if not prompt:
        common = (one == other for one, other in zip(chosen[:-1], rejected[:-1], strict=False))
        prompt = chosen[: next((n for n, same in enumerate(common) if not same), min(len(chosen), len(rejected)) - 1)]
    if not prompt:
        raise ValueError("the row has no prompt: neither prompt nor messages, and no common beginning of both answers")
    chosen, rejected = (each[len(prompt) :] if each[: len(prompt)] == prompt else each for each in (chosen, rejected))
    for name, answer in (("chosen", chosen), ("rejected", rejected)):
        if not answer or answer[-1]["role"] != "assistant":
            raise ValueError(f"{name} has no answer: its last message has not role assistant")
        if any(each.get("weight") == 0 for each in answer):
            raise ValueError(f"{name} has an answer of weight 0, but a preference is about whole answers")
    return Preference(prompt, chosen, rejected, row.get("tools") or None)


def messages_of(row: dict[str, Any], name: str, role: str) -> list[Message]:
    """Return the field *name* of *row* as messages; a text is one message of *role*, an absent prompt is empty."""
    check_row(row)
    value = row.get(name)
    if isinstance(value, str) and value:
        return [{"role": role, "content": value}]
    if value is None and role == "user":
        return []
    if not value or not are_messages(value):
        raise ValueError(f"{name} is neither a text nor a list of messages with a role each")
    check_messages(value)
    return for_templates(value)


def _tokens(
    tokenizer: Any, preference: Preference, answer: Sequence[Message], left_out: Counter[str] | None = None
) -> Tokens:
    """Return the tokens of the prompt and *answer*, of which only the answer is learned.

    Raises:
        UserError: The template changes the beginning of the answer when the answer goes on, or writes nothing of it.
    """
    conversation = Conversation([*preference.prompt, *answer], preference.tools)
    turns = tokenize(tokenizer, conversation, len(preference.prompt), left_out)
    if len(turns) > 1:
        problem = "the chat template changes earlier messages of an answer that has several"
        help = "Use answers of one message, or another template"
        raise UserError(Diagnostic("data.tokenizer", problem, help=help))
    if not turns or not any(turns[0].learned):
        problem, help = "the chat template writes nothing for an answer", "Correct the answer, or name another template"
        raise UserError(Diagnostic("data.tokenizer", problem, help=help))
    return turns[0]


def pad(pairs: Sequence[tuple[Tokens, Tokens]], length: int) -> Pairs:
    """Return *pairs* with *length* positions for each answer; no answer attends to the positions after its end."""
    x = torch.zeros(len(pairs), 2, length, dtype=torch.int32)
    y = torch.full((len(pairs), 2, length), NOT_LEARNED, dtype=torch.int32)
    for n, pair in enumerate(pairs):
        for side, (tokens, learned) in enumerate(pair):
            size = len(tokens) - 1
            inputs, following = torch.tensor(tokens[:-1]), torch.tensor(tokens[1:])
            x[n, side, :size] = inputs.int()
            y[n, side, :size] = following.where(torch.tensor(learned[1:]), NOT_LEARNED).int()
    return Pairs(x, y)
