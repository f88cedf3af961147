"""What a run asks of its checkpoints, and what it refuses to go on from."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from torch import Tensor

from workloads.errors import WorkloadError
from workloads.training.config import TrainingConfig
from workloads.training.models import weights_differ


class Checkpoints(Protocol):
    """What the loop asks of `workloads.checkpoint.Checkpoints`."""

    def save(self, step: int, state: Mapping[str, Any]) -> None: ...
    def newest(self) -> Any: ...
    def at(self, step: int) -> Any: ...
    def load(self, checkpoint: Any) -> dict[str, Any]: ...
    def close(self) -> None: ...


def checkpoints_at(directory: Path, config: TrainingConfig, **part: Any) -> Checkpoints:
    """Open the checkpoints in *directory*.

    Args:
        part: Which part of them is this process's: ``rank``, ``world`` and ``run``; left out where one saves for all.
    """
    from workloads import checkpoint

    saving = config.saving
    return checkpoint.Checkpoints(directory, keep_last=saving.keep_last, keep_every=saving.keep_every, **part)


def refuse_another_model(saved: Mapping[str, Tensor], own: Mapping[str, Tensor], where: str, fix: str) -> None:
    """Raise where the *saved* weights are not a model's *own* by name and shape.

    Raises:
        WorkloadError: names the first that differs.
    """
    differing = weights_differ(saved, own)
    if differing:
        name = differing[0]
        got = f"got {name} of {_shape(saved.get(name))}, and {len(differing) - 1} others that differ"
        raise WorkloadError(where, got, f"this run's model has {_shape(own.get(name))}", fix)


def _shape(weight: Tensor | None) -> str:
    return "none such" if weight is None else "x".join(map(str, weight.shape)) or "one number"
