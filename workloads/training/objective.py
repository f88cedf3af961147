"""The objective of a training: the loss of a batch, and the metrics that follow from its sums."""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import torch
from torch import Tensor, nn

from workloads.training import dpo, grpo, multi_token
from workloads.training.config import DeepseekV3, MultiTokenPrediction, Preferences, Tasks, TrainingConfig
from workloads.training.models import cross_entropy


class Batch(NamedTuple):
    """Examples on the device of the model."""

    x: Tensor
    y: Tensor
    reference: Tensor | None = None
    """Log-probabilities of the answers of pairs by the reference."""
    outcomes: Tensor | None = None
    """Rows of the module `grpo` for answers that the model has written."""


class Objective(Protocol):
    """The loss of a model."""

    sums: int
    """Number of sums that `forward` counts: the losses, the right answers, and those of further metrics."""

    def forward(self, model: nn.Module, batch: Batch, counting: bool, step: int = 0) -> tuple[Tensor, Tensor | None]:
        """Return the sum of the losses of *batch*; if *counting*, also its sums, in fp32. No logits stay.

        Args:
            step: Steps that the run has taken.
        """
        ...

    def metrics(self, sums: Sequence[float], answers: float) -> dict[str, float]:
        """Return the metrics of the *sums* over *answers* answers."""
        ...


class CrossEntropy:
    """The loss of the right class, or of the next token."""

    sums = 2

    def __init__(self, in_chunks: bool = False) -> None:
        """
        Args:
            in_chunks: Whether the model computes the loss in chunks.
        """
        self._in_chunks = in_chunks

    def forward(self, model: nn.Module, batch: Batch, counting: bool, step: int = 0) -> tuple[Tensor, Tensor | None]:
        if self._in_chunks:
            in_chunks: tuple[Tensor, Tensor | None] = model(batch.x, batch.y, counting)
            return in_chunks
        return cross_entropy(model(batch.x), batch.y, counting)

    def metrics(self, sums: Sequence[float], answers: float) -> dict[str, float]:
        return {"loss": sums[0] / answers, "accuracy": sums[1] / answers}


class MultiToken:
    """The loss of the next token, and with a weight that of the token after it."""

    sums = 5

    def __init__(self, config: MultiTokenPrediction, steps: int, in_chunks: bool) -> None:
        """
        Args:
            steps: Steps of the whole run.
            in_chunks: Whether the model computes the losses in chunks.
        """
        self._config, self._steps, self._in_chunks = config, steps, in_chunks

    def forward(self, model: nn.Module, batch: Batch, counting: bool, step: int = 0) -> tuple[Tensor, Tensor | None]:
        weight = multi_token.loss_weight(self._config, step, self._steps)
        losses: tuple[Tensor, Tensor | None] = model(batch.x, batch.y, counting, self._in_chunks, weight)
        return losses

    def metrics(self, sums: Sequence[float], answers: float) -> dict[str, float]:
        loss, right, mtp_loss, mtp_right, mtp_answers = sums
        mtp = {"mtp_loss": mtp_loss / max(1.0, mtp_answers), "mtp_accuracy": mtp_right / max(1.0, mtp_answers)}
        return {"loss": loss / answers, "accuracy": right / answers, **mtp}


class DirectPreference:
    """The loss of direct preference optimization. A pair is right if the model prefers the chosen answer."""

    sums = 3

    def __init__(self, beta: float) -> None:
        self._beta = beta

    def forward(self, model: nn.Module, batch: Batch, counting: bool, step: int = 0) -> tuple[Tensor, Tensor | None]:
        assert batch.reference is not None
        losses, margins = dpo.loss(dpo.answer_log_probs(model, batch.x, batch.y), batch.reference, self._beta)
        loss = losses.sum()
        if not counting:
            return loss, None
        return loss, torch.stack([loss, (margins > 0).sum().float(), margins.sum()]).detach()

    def metrics(self, sums: Sequence[float], answers: float) -> dict[str, float]:
        return {"loss": sums[0] / answers, "accuracy": sums[1] / answers, "margin": sums[2] / answers}


class GroupRelative:
    """The loss of group relative policy optimization. An answer is right if it has the whole reward."""

    sums = 5

    def __init__(self, temperature: float) -> None:
        self._temperature = temperature

    def forward(self, model: nn.Module, batch: Batch, counting: bool, step: int = 0) -> tuple[Tensor, Tensor | None]:
        outcomes = batch.outcomes
        assert outcomes is not None
        loss = grpo.loss(model, batch.x, batch.y, outcomes[:, grpo.ADVANTAGE], self._temperature)
        if not counting:
            return loss, None
        columns = (outcomes[:, column].sum() for column in (grpo.RIGHT, grpo.REWARD, grpo.CUT))
        return loss, torch.stack([loss.detach(), *columns, torch.tensor(float(len(outcomes))).to(loss)])

    def metrics(self, sums: Sequence[float], answers: float) -> dict[str, float]:
        loss, right, reward, cut, written = sums
        shares = {"accuracy": right / written, "reward": reward / written, "cut_off": cut / written}
        return {"loss": loss / answers, **shares, "answer_tokens": answers / written}


def choose(config: TrainingConfig, in_chunks: bool) -> Objective:
    """Return the objective of *config*.

    Args:
        in_chunks: Whether the model computes its loss in chunks.
    """
    if isinstance(config.data, Preferences):
        return DirectPreference(config.dpo_beta)
    if isinstance(config.data, Tasks):
        return GroupRelative(config.grpo.temperature)
    if isinstance(config.model, DeepseekV3) and config.model.mtp:
        return MultiToken(config.model.mtp, config.steps, in_chunks)
    return CrossEntropy(in_chunks)


def to_evaluate(pairs: bool, config: TrainingConfig, in_chunks: bool) -> Objective:
    """Return the objective that scores pairs, or other examples, which a run may have beside its own."""
    return DirectPreference(config.dpo_beta) if pairs else CrossEntropy(in_chunks)
