"""Tasks in JSON Lines or Parquet: a prompt as tokens of a chat template, and the answer that rules expect."""

from collections import Counter
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor

from workloads.errors import Diagnostic, UserError
from workloads.training import rows
from workloads.training.chat_template import Message
from workloads.training.config import Tasks
from workloads.training.conversations import (
    NOT_LEARNED,
    TokenRange,
    encode,
    load_chat_tokenizer,
    nothing_to_learn,
    widen,
)
from workloads.training.preferences import messages_of
from workloads.training.rewards import COMPARING
from workloads.training.row_files import name_place, read_rows

EXPECTED = 'objects such as {"prompt": "…", "answer": "…"}, the prompt a text or a list of messages'
ANSWER_CHARACTERS = 4096
"""The longest expected answer."""
TOO_LONG = "prompts that leave no room for answer_tokens"
# Shape letters: N tasks, P positions of a prompt.


class Task(NamedTuple):
    prompt: list[Message]
    answer: str
    """The answer that rules expect; empty for rules that expect none."""
    tools: list[Any] | None
    """Descriptions of functions that the chat template shows to the model."""


class TaskSet(NamedTuple):
    """Values that rules read from tasks."""

    config: Tasks
    answers: tuple[str, ...]


class Prompts(NamedTuple):
    x_NP: Tensor
    """Tokens of the prompts."""
    y_NP: Tensor
    """The same tokens, and `NOT_LEARNED` after the end of a prompt."""
    tasks: TaskSet


class TaskData(NamedTuple):
    """The data of a run, and what it leaves out."""

    training: Prompts
    held_out: Prompts
    left_out: Mapping[str, int]
    """Number of prompts that the model does not answer, by the reason."""
    lengths: Mapping[str, TokenRange]
    """Lengths of the prompts that are too long."""


def load(config: Tasks) -> TaskData:
    """Return the tasks to train on, those that the run does not train on, and the number of those left out.

    Raises:
        UserError: A file is missing or malformed, or no prompt leaves room for an answer.
    """
    tokenizer = load_chat_tokenizer(config.tokenizer)
    room = config.sequence_length - config.answer_tokens
    parts: tuple[list[tuple[list[int], str]], list[tuple[list[int], str]]] = ([], [])
    left_out: Counter[str] = Counter()
    lengths: dict[str, TokenRange] = {}
    comparing = [rule.kind for rule in config.rewards if rule.kind in COMPARING]
    for place, each in read_rows(config, partial(parse, comparing=comparing), EXPECTED):
        with name_place(place):
            tokens = encode(tokenizer, prompt_text(tokenizer, each))
        if len(tokens) > room:
            left_out[TOO_LONG] += 1
            widen(lengths, TOO_LONG, len(tokens))
            continue
        parts[rows.is_held_out([each.prompt, each.tools], config.held_out)].append((tokens, each.answer))
    if not parts[False]:
        raise nothing_to_learn(config, "prompt", len(parts[True]), left_out, lengths)
    training, held_out = (_pad(config, each) for each in parts)
    return TaskData(training, held_out, left_out, lengths)


def parse(row: Any, comparing: Sequence[str] = ()) -> Task:
    """Return the task of *row*.

    Args:
        comparing: Rules that need the expected answer.

    Raises:
        ValueError: The row is no task.
    """
    if not isinstance(row, dict):
        raise ValueError("the row is no object")
    prompt = messages_of(row, "prompt" if row.get("prompt") else "messages", "user")
    if not prompt or prompt[-1]["role"] == "assistant":
        raise ValueError("the row has no prompt: prompt or messages, whose last message is not an answer")
    answer = row.get("answer", "")
    if isinstance(answer, bool) or not isinstance(answer, str | int | float):
        raise ValueError("answer is neither a text nor a number")
    if len(text := str(answer)) > ANSWER_CHARACTERS:
        raise ValueError(f"answer has {len(text)} characters, and at most {ANSWER_CHARACTERS} are compared")
    if comparing and not text.strip():
        raise ValueError(f"the row has no answer, and rule {comparing[0]} compares answers with it")
    return Task(prompt, text, row.get("tools") or None)


def prompt_text(tokenizer: Any, task: Task) -> str:
    """Return the prompt of *task* as the chat template writes it before an answer.

    Raises:
        UserError: The template refuses the prompt.
    """
    try:
        text: str = tokenizer.apply_chat_template(
            task.prompt, tools=task.tools, add_generation_prompt=True, tokenize=False
        )
    except Exception as error:  # a template raises as its author chose
        problem = f"the chat template refuses a prompt: {error}"
        help = "Correct the prompt, or name another tokenizer"
        raise UserError(Diagnostic("data.tokenizer", problem, help=help)) from error
    return text


def _pad(config: Tasks, tasks: Sequence[tuple[list[int], str]]) -> Prompts:
    y = torch.full((len(tasks), max((len(tokens) for tokens, _ in tasks), default=1)), NOT_LEARNED, dtype=torch.int32)
    for n, (tokens, _) in enumerate(tasks):
        y[n, : len(tokens)] = torch.tensor(tokens)
    return Prompts(y.clamp(min=0), y, TaskSet(config, tuple(answer for _, answer in tasks)))
