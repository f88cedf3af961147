"""The differences between the iterations of one family of models and another, and the parts that families share."""

import json
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from rackwright.iteration.candidates import MODEL, TRAINING, StartingModel
from rackwright.iteration.process_runner import ProcessResult
from rackwright.iteration.request import TUNE, IterationRequest, Stage
from rackwright.iteration.work import Work
from workloads import config_file
from workloads.evaluation.data import EvaluationData
from workloads.serving.model import Model
from workloads.training.config import TrainingConfig

LOCAL: dict[str, Any] = {"launcher": "any", "world": None, "elastic": False, "sharding": "none"}
"""Settings of a training on this computer, in place of those of its parent, which may have run on several hosts."""
FINE_TUNING = {"replay": 0.5, "patience": 5}


@dataclass(frozen=True)
class IterationContext:
    """The request of an iteration, its state, and its processes."""

    request: IterationRequest
    work: Work
    run_python: Callable[..., ProcessResult]
    """Function that runs ``python -m`` with its arguments."""
    questions: EvaluationData | None = None
    """Questions with choices that the new model must answer."""

    @property
    def data(self) -> Path:
        """The copy of the new data."""
        return self.work.directory / self.request.copied_data

    @property
    def training(self) -> Path:
        """Directory of the fine-tuning."""
        return self.work.directory / TRAINING

    @property
    def model(self) -> Path:
        """Directory of the new model."""
        return self.work.directory / MODEL


class Family(Protocol):
    """The part of an iteration that depends on the family of the model."""

    @property
    def name(self) -> str:
        """Name of the family, in reports."""

    @property
    def kinds(self) -> Collection[str]:
        """Kinds of models: values of ``model.kind`` in the configuration of a training."""

    @property
    def data(self) -> Mapping[str, str]:
        """Descriptions of new data, by the suffix of the file."""

    @property
    def publishing(self) -> Stage:
        """The stage that publishes the new model."""

    @property
    def takes_choices(self) -> bool:
        """Whether the models can answer questions with choices."""

    @property
    def count_title(self) -> str:
        """Title of the number that counts what judges a model."""

    @property
    def figure_keys(self) -> Mapping[str, Sequence[str]]:
        """Keys in `figures` of each figure, by its title: before, tuned, and quantised if the gate has that one."""

    def digest(self, data: Path) -> str:
        """Return the digest of the content of the file *data*.

        Raises:
            DeclarationError: The file cannot be read.
        """

    def published_form(self, model: Model, training: Mapping[str, Any]) -> tuple[str, str]:
        """Return the target and the precision of a published *model* that came from *training*."""

    def check_parent(self, training: Mapping[str, Any]) -> None:
        """Check the files outside the checkpoint from which *training* started.

        Raises:
            DeclarationError: A file has changed or is missing.
        """

    def training_config(self, request: IterationRequest, model: StartingModel, data: Path) -> TrainingConfig:
        """Return the configuration of the fine-tuning.

        Raises:
            UserError: A setting is invalid.
        """

    def publishing_parameters(self, request: IterationRequest, model: StartingModel) -> dict[str, Any]:
        """Return the parameters of the stage that publishes.

        Raises:
            UserError: A setting is invalid.
        """

    def gate(self, context: IterationContext) -> None:
        """Compare the tuned model with the served one.

        Raises:
            AccuracyTooLow: The tuned model falls short.
        """

    def publish(self, context: IterationContext) -> dict[str, Any]:
        """Publish the tuned model, and return its version, bytes, precision and target.

        Raises:
            AccuracyTooLow: The published model would not be the tuned one, or falls short.
        """

    def figures(self, work: Work) -> list[dict[str, Any]]:
        """Return the figures by data set, the new data first: data, rows, before, tuned, after, and others."""


def stages_of(family: Family) -> tuple[Stage, ...]:
    """Return the stages of an iteration of *family*, in their order."""
    return (Stage.FIND, Stage.TUNE, Stage.GATE, family.publishing, Stage.PROMOTE, Stage.UP)


def fine_tuning_config(
    request: IterationRequest, model: StartingModel, data: Mapping[str, Any], **values: Any
) -> TrainingConfig:
    """Return the configuration of the parent with new *data*, replay of old data, and settings of this computer.

    Args:
        values: Further settings in place of the parent's.

    Raises:
        UserError: A setting, or a change of the request, is invalid.
    """
    fine_tuning = {**FINE_TUNING, "parent": str(model.checkpoint), "may_lose": request.limits.may_lose}
    merged = {**model.config, **LOCAL, "data": data, "fine_tuning": fine_tuning, **values}
    changes = request.changes_of(TUNE)
    return config_file.apply_changes(TrainingConfig, "--set tune", json.loads(json.dumps(merged)), changes)
