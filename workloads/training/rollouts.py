"""The answers that a model writes to tasks, and their rewards."""

from collections.abc import Iterator, Sequence
from inspect import signature
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from workloads.errors import Diagnostic, UserError
from workloads.training import grpo, rewards
from workloads.training.config import HuggingFace, TrainingConfig
from workloads.training.conversations import (
    Conversation,
    Tokens,
    decode,
    load_chat_tokenizer,
    pad,
    stops,
    tokenize,
)
from workloads.training.data import Examples
from workloads.training.device import Device
from workloads.training.evaluation import EvaluationScore, evaluating, shares
from workloads.training.precision import Precision
from workloads.training.tasks import TaskSet
from workloads.training.workers import Workers

# Shape letters: B answers, V the vocabulary.


class WrittenAnswer(NamedTuple):
    prompt: list[int]
    answer: list[int]
    """The tokens of the answer, with its end."""
    reward: float
    ended: bool


class Rollouts:
    """Writes and scores answers to tasks in one process."""

    def __init__(self, config: TrainingConfig, workers: Workers, device: Device, precision: Precision) -> None:
        self._config, self._workers, self._device, self._precision = config, workers, device, precision
        self.have_differed = False
        """Whether two answers to one task have had different rewards, in this process or, after `share`, in any."""

    def share(self) -> None:
        """Tell all processes whether rewards have differed in any of them. All of them call it."""
        self.have_differed = self._workers.any(self.have_differed)

    def examples(self, model: nn.Module, examples: Examples, indices: Tensor, at_once: int) -> Examples:
        """Return a group of answers to each task of *indices*, as examples with their outcomes.

        Args:
            at_once: Number of answers that the model writes at once.
        """
        settings = self._config.grpo
        with evaluating(model, self._workers, self._device, self._precision):
            answers = self._write(model, examples, indices.tolist(), settings.group, settings.temperature, at_once)
        rewards_of = torch.tensor([each.reward for each in answers]).view(-1, settings.group)
        advantages = grpo.advantages(rewards_of).flatten()
        self.have_differed |= bool(advantages.any())
        outcomes = torch.tensor(
            [[0.0, each.reward, float(each.reward >= rewards.FULL), float(not each.ended)] for each in answers]
        )
        outcomes[:, grpo.ADVANTAGE] = advantages
        rows = [
            Tokens(each.prompt + each.answer, [False] * len(each.prompt) + [True] * len(each.answer))
            for each in answers
        ]
        assert examples.tasks is not None
        x, y = pad(rows, examples.tasks.config.sequence_length)
        return Examples(x, y, outcomes=outcomes)

    def score(self, model: nn.Module, examples: Examples, at_once: int, workers: Workers) -> EvaluationScore:
        """Return the mean reward of the most likely answers to all tasks as accuracy, and what is missing to 1 as loss.

        All *workers* call it.
        """
        totals = torch.zeros(2, device=self._device.torch)
        with evaluating(model, workers, self._device, self._precision):
            for indices, is_own in shares(examples, at_once * workers.data_size, workers):
                answers = self._write(model, examples, indices.tolist(), 1, None, at_once)
                if is_own:
                    totals += torch.tensor([sum(each.reward for each in answers), len(answers)]).to(totals)
        reward, number = workers.all_reduce_sum(totals).tolist()
        return EvaluationScore(reward / number, 1 - reward / number)

    def _write(
        self, model: nn.Module, examples: Examples, indices: Sequence[int], group: int, temperature: float | None,
        at_once: int,
    ) -> list[WrittenAnswer]:  # fmt: skip
        """Return *group* answers to each task, in order."""
        tasks = examples.tasks
        assert tasks is not None
        tokenizer = load_chat_tokenizer(tasks.config.tokenizer)
        ends = ends_of(tokenizer, self._config)
        numbers = [number for number in indices for _ in range(group)]
        prompts = {number: [int(token) for token in examples.y[number] if token >= 0] for number in {*indices}}
        found: dict[int, WrittenAnswer] = {}
        for places in batches([len(prompts[number]) for number in numbers], at_once):
            asked = [prompts[numbers[place]] for place in places]
            written = generate(model, asked, tasks.config.answer_tokens, ends, temperature)
            for place, prompt, answer in zip(places, asked, written, strict=True):
                found[place] = _score_answer(tokenizer, tasks, numbers[place], prompt, answer, ends)
        return [found[place] for place in range(len(numbers))]


def _score_answer(
    tokenizer: Any, tasks: TaskSet, number: int, prompt: list[int], answer: list[int], ends: frozenset[int]
) -> WrittenAnswer:
    ended = answer[-1] in ends
    text = decode(tokenizer, answer[:-1] if ended else answer)
    return WrittenAnswer(prompt, answer, rewards.score(tasks.config.rewards, text, tasks.answers[number], ended), ended)


def batches(lengths: Sequence[int], at_once: int) -> Iterator[list[int]]:
    """Yield the places of prompts of equal *lengths*, at most *at_once*: no prompt is padded, for any architecture."""
    for length in sorted({*lengths}):
        places = [place for place, each in enumerate(lengths) if each == length]
        yield from (places[first : first + at_once] for first in range(0, len(places), at_once))


def generate(
    model: nn.Module, prompts: Sequence[list[int]], limit: int, ends: frozenset[int], temperature: float | None
) -> list[list[int]]:
    """Return an answer to each of *prompts*, which have equally many tokens: up to *limit* tokens, with its end.

    Args:
        model: The `LanguageModel`, in evaluation mode.
        temperature: Temperature of the draw; None takes the most likely token.
    """
    inner: Any = model.model
    tokens = torch.tensor(prompts, device=next(inner.parameters()).device)
    stop = torch.tensor(sorted(ends), device=tokens.device)
    # logits of a whole prompt may take more memory than its weights
    last_alone = {"logits_to_keep": 1} if "logits_to_keep" in signature(inner.forward).parameters else {}
    cache, written = None, []
    done = torch.zeros(len(prompts), dtype=torch.bool, device=tokens.device)
    for _ in range(limit):
        output = inner(input_ids=tokens, cache=cache, use_cache=True, **last_alone)
        cache, logits_BV = output.cache, output.logits[:, -1].float()
        if temperature is None:
            tokens = logits_BV.argmax(-1, keepdim=True)
        else:
            tokens = torch.multinomial((logits_BV / temperature).softmax(-1), 1)
        written.append(tokens)
        done |= torch.isin(tokens[:, 0], stop)
        if bool(done.all()):
            break
    rows: list[list[int]] = torch.cat(written, 1).tolist()
    return [row[: next((n + 1 for n, token in enumerate(row) if token in ends), len(row))] for row in rows]


def ends_of(tokenizer: Any, config: TrainingConfig) -> frozenset[int]:
    """Return the tokens that end an answer: those of the model's configuration, and that of the chat template.

    Raises:
        UserError: There are none.
    """
    assert isinstance(config.model, HuggingFace)
    ends = {*stops(tokenizer.name_or_path), *stops(config.model.path), tokenizer.eos_token_id} - {None}
    sample = Conversation([{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}], None)
    marks = {*tokenizer.all_special_ids, *tokenizer.added_tokens_decoder}
    for turn in tokenize(tokenizer, sample):
        if turn.learned[-1] and turn.tokens[-1] in marks:
            ends.add(turn.tokens[-1])
    if not ends:
        problem, expected = "no token ends an answer", "eos_token_id, or a mark of the chat template after an answer"
        raise UserError(Diagnostic("data.tokenizer", problem, expected, "Name the tokenizer of a chat model"))
    return frozenset(ends)
