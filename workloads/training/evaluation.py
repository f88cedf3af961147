"""Accuracy and loss of a model on examples that it was not trained on."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor, nn

from workloads.training import dpo
from workloads.training.data import Examples, count_answers
from workloads.training.device import Device
from workloads.training.objective import Batch, CrossEntropy, Objective
from workloads.training.precision import Precision
from workloads.training.workers import Workers


class EvaluationScore(NamedTuple):
    """Means over all answers.

    A classifier gives one answer per example, and a language model one per position, or one per pair of answers.
    """

    accuracy: float
    loss: float


def score(
    model: nn.Module,
    examples: Examples,
    batch: int,
    workers: Workers,
    device: Device,
    precision: Precision,
    objective: Objective = CrossEntropy(),  # noqa: B008  # it has no state
) -> EvaluationScore:
    """Return the score of *model* on *examples*, which the *workers* divide among them; all workers call it.

    Args:
        batch: Examples that all processes together evaluate at once.
    """
    totals = torch.zeros(3, device=device.torch)
    with evaluating(model, workers, device, precision):
        for indices, is_own in shares(examples, batch, workers):
            taken = make_batch(examples, indices, device)
            _, counted = objective.forward(model, taken, counting=True)
            assert counted is not None
            if is_own:
                totals += torch.cat([counted[:2], count_answers(taken.y).to(device.torch).reshape(1)])
    loss_sum, correct, answers = workers.all_reduce_sum(totals).tolist()
    return EvaluationScore(correct / answers, loss_sum / answers)


def answer_log_probs(
    model: nn.Module,
    examples: Examples,
    batch: int,
    workers: Workers,
    device: Device,
    precision: Precision,
    stopping: Callable[[], bool],
) -> Tensor | None:
    """Return the log-probabilities of the answers of all pairs, in host memory; all workers call it with *examples*.

    Args:
        stopping: Function that returns whether this process has a stop request; then the result is None.
    """
    log_probs_N2 = torch.zeros(len(examples), 2, device=device.torch)
    with evaluating(model, workers, device, precision):
        for indices, is_own in shares(examples, batch, workers):
            if workers.any(stopping()):
                return None
            taken = make_batch(examples, indices, device)
            values = dpo.answer_log_probs(model, taken.x, taken.y)
            if is_own:
                log_probs_N2[indices.to(device.torch)] = values
    return workers.all_reduce_sum(log_probs_N2).cpu()  # each row has one process that does not add 0


def make_batch(examples: Examples, indices: Tensor, device: Device) -> Batch:
    """Return the examples with these numbers on *device*."""
    x, y = (tensor.to(device.torch) for tensor in examples.take(indices))
    more = (
        None if each is None else each[indices].to(device.torch) for each in (examples.reference, examples.outcomes)
    )
    return Batch(x, y, *more)


@contextmanager
def evaluating(model: nn.Module, workers: Workers, device: Device, precision: Precision) -> Iterator[None]:
    """Evaluate *model* while the context is open: without gradients and dropout."""
    model.eval()
    with torch.no_grad(), precision.forward_context(device.torch.type, workers.sharded):
        yield
    model.train()


def shares(examples: Examples, batch: int, workers: Workers) -> Iterator[tuple[Tensor, bool]]:
    """Yield the numbers of the examples of this process in each batch, and whether it has any.

    A process without a share takes the first example: a sharded model needs the call of every process.
    """
    for chunk in torch.arange(len(examples)).split(batch):
        share = chunk[workers.data_rank :: workers.data_size]
        yield (share, True) if len(share) else (chunk[:1], False)
