"""The training of one site in one round, by the one training loop."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from workloads.federation import weights as arrays
from workloads.federation.weights import Weights
from workloads.training import data, sharded
from workloads.training.config import TrainingConfig
from workloads.training.data import count_answers
from workloads.training.evaluation import EvaluationScore
from workloads.training.initial_weights import fill
from workloads.training.loop import RunContext, Training
from workloads.training.metrics import MetricsLog
from workloads.training.models import build_shapes, materialize, trainable_state
from workloads.training.objective import Batch, Objective
from workloads.training.prepare import prepare
from workloads.training.stopping import StopRequest
from workloads.training.workers.workers import Alone


class TrainedRound(NamedTuple):
    """The result of one round at a site."""

    update: dict[str, np.ndarray]
    score: EvaluationScore
    """Score of the received model on the held-out rows of the site."""


def initial_model(config: TrainingConfig) -> dict[str, np.ndarray]:
    """Return the weights from which all sites start: those of the recipe's seed."""
    model = materialize(build_shapes(config.model), torch.device("cpu"))
    fill(model, config.model, config.seed)
    return _as_arrays(trainable_state(model))


def train_round(
    config: TrainingConfig, model: Weights, round: int, rounds: int, proximal: float | None, out: Path
) -> TrainedRound:
    """Return the update of *model* by the steps of *round*, without any state of an earlier one.

    Batches, random numbers and the learning rate follow from the step, as in a run that resumes, so that a round that
    is repeated has the same update. The moments of the optimizer begin at zero.

    Args:
        round: Number of the round, from 1.
        proximal: Weight of the distance from *model* in the loss; None leaves it out.
        out: Directory for the metrics.

    Raises:
        UserError: A check before the first step failed, or a number is not finite.
    """
    workers, steps = Alone(), config.steps // rounds
    prepared = prepare(config, workers)
    metrics = MetricsLog(out / "metrics.jsonl", lambda: False)
    with StopRequest(0) as stopping:
        context = RunContext(workers, prepared.device, prepared.precision, metrics, stopping, _NoCheckpoints)
        training = Training(prepared.config, prepared.inputs, context)
        own = trainable_state(training.model)
        sharded.copy_parts(own, {name: torch.from_numpy(model[name]) for name in own})
        score = training.score(data.held_out(prepared.config.data))
        if proximal is not None:
            training.objective = Proximal(training.objective, own, proximal)
        training.step = (round - 1) * steps
        training.run(training.model, round * steps)
    metrics.close()
    return TrainedRound(arrays.difference(_as_arrays(own), model), score)


def evaluate(config: TrainingConfig, model: Weights, out: Path) -> EvaluationScore:
    """Return the score of *model* on the held-out rows of the data of *config*."""
    workers = Alone()
    prepared = prepare(config, workers)
    metrics = MetricsLog(out / "metrics.jsonl", lambda: False)
    context = RunContext(workers, prepared.device, prepared.precision, metrics, StopRequest(0), _NoCheckpoints)
    training = Training(prepared.config, prepared.inputs, context)
    own = trainable_state(training.model)
    sharded.copy_parts(own, {name: torch.from_numpy(model[name]) for name in own})
    metrics.close()
    return training.score(data.held_out(prepared.config.data))


class Proximal:
    """An objective with the distance from the received model, which keeps sites with different data near each other.

    Source: Li et al. 2020, arXiv:1812.06127, equation 2.
    """

    def __init__(self, inner: Objective, weights: Mapping[str, Tensor], proximal: float) -> None:
        """
        Args:
            weights: The weights that are trained; they have the values of the received model now.
        """
        self._inner, self._proximal = inner, proximal
        self._received = {name: weight.detach().clone() for name, weight in weights.items()}
        self.sums = inner.sums

    def forward(self, model: nn.Module, batch: Batch, counting: bool, step: int = 0) -> tuple[Tensor, Tensor | None]:
        loss, counted = self._inner.forward(model, batch, counting, step)
        named = dict(model.named_parameters())
        distances = [(named[name] - weight).square().sum() for name, weight in self._received.items() if name in named]
        # the loop divides the sum by the number of answers
        share = count_answers(batch.y).to(loss.device) * (self._proximal / 2)
        return loss + share * torch.stack(distances).sum(), counted

    def metrics(self, sums: Sequence[float], answers: float) -> dict[str, float]:
        return self._inner.metrics(sums, answers)


class _NoCheckpoints:
    """Checkpoints of a round, which has none: the coordinator has the model, and a lost round is trained again."""

    committed: int | None = None
    failure = ""

    def save(self, step: int, state: Mapping[str, Any]) -> None:
        pass

    def newest(self, flaw: Any) -> None:
        return None

    def steps(self) -> list[int]:
        return []

    def set_aside(self, step: int) -> str:
        raise NotImplementedError

    def at_step(self, step: int) -> Any:
        raise NotImplementedError

    def wait(self) -> bool:
        return True

    def close(self) -> None:
        pass


def _as_arrays(state: Mapping[str, Tensor]) -> dict[str, np.ndarray]:
    return {name: tensor.detach().to("cpu", torch.float32).numpy().copy() for name, tensor in state.items()}
