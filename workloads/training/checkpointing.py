"""Checkpoints of a run: the interface that the loop uses, and the check that a checkpoint fits the model."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

from torch import Tensor

from workloads.errors import Diagnostic, UserError
from workloads.training.config import Optimizer, TrainingConfig
from workloads.training.models import weights_differ


class TrainingCheckpoints(Protocol):
    """The methods of `workloads.checkpoint.Checkpoints` that the loop uses."""

    committed: int | None
    """Last step that this run has committed."""
    failure: str
    """Reason why the last save failed; empty if it succeeded."""

    def save(self, step: int, state: Mapping[str, Any]) -> None: ...
    def newest(self, flaw: Callable[[Any], str]) -> Any: ...
    def steps(self) -> list[int]: ...
    def set_aside(self, step: int) -> str: ...
    def at_step(self, step: int) -> Any: ...
    def wait(self) -> bool: ...
    def close(self) -> None: ...


def open_checkpoints(directory: Path, config: TrainingConfig, **part: Any) -> TrainingCheckpoints:
    """Open the checkpoints in *directory*.

    Args:
        part: This process's part of each checkpoint: ``rank``, ``world`` and ``run``; empty if one process saves all.
    """
    from workloads import checkpoint

    saving = config.saving
    return checkpoint.Checkpoints(directory, keep_last=saving.keep_last, keep_every=saving.keep_every, **part)


def check_weights_match(saved: Mapping[str, Any], own: Mapping[str, Tensor], where: str, help: str) -> None:
    """Raise unless the *saved* weights have the names and shapes of a model's *own* weights.

    Raises:
        UserError: The weights differ; the message names the first difference.
    """
    differing = weights_differ(saved, own)
    if differing:
        name = differing[0]
        problem = f"its weight {name} has shape {_shape(saved.get(name))}"
        expected = f"shape {_shape(own.get(name))}, as in the model of this run"
        note = f"other weights that differ: {len(differing) - 1}" if differing[1:] else ""
        raise UserError(Diagnostic(where, problem, expected, help, note))


def check_optimizer_matches(saved: Mapping[str, Any], own: Optimizer, where: str) -> None:
    """Raise unless the configuration *saved* has the kind of optimizer of this run, whose state another cannot use.

    Raises:
        UserError: The kinds differ.
    """
    if (kind := saved["optimizer"]["kind"]) != own.kind:
        problem, expected = f"the optimizer of the run was {kind}", f"{own.kind}, as in the configuration of this run"
        raise UserError(Diagnostic(where, problem, expected, f"Set optimizer.kind={kind}, or use another --out"))


def _shape(weight: Any) -> str:
    return "no such weight" if weight is None else "x".join(map(str, weight.shape)) or "a single number"
