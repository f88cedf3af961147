"""The request of an iteration, its stages, and the key by which equal requests share one iteration."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rackwright.errors import command
from rackwright.iteration.gate import Limits

if TYPE_CHECKING:
    from rackwright.stack import Stack


class Stage(StrEnum):
    """The stages of iterations, in their order. A family of models has those that it needs."""

    FIND = "find"
    TUNE = "tune"
    GATE = "gate"
    QUANTIZE = "quantize"
    PUBLISH = "publish"
    PROMOTE = "promote"
    UP = "up"


DESCRIPTIONS = {
    Stage.FIND: "find the served model and its training",
    Stage.TUNE: "fine-tune that training with the new data",
    Stage.GATE: "compare with the served model, on data that neither model has learned",
    Stage.QUANTIZE: "quantise for the target processor, and compare again",
    Stage.PUBLISH: "export in the served form, compare the logits, and publish",
    Stage.PROMOTE: "write the new model into the fleet's file",
    Stage.UP: "roll out to one host after the other",
}
PUBLISHING = (Stage.QUANTIZE, Stage.PUBLISH)
"""Stages whose result is the new model; an iteration has one of them."""
TUNE = f"{Stage.TUNE}."
"""Prefix of the settings of the training that a request changes."""


@dataclass(frozen=True)
class IterationRequest:
    """The arguments of one call of `rackwright server iterate`."""

    stack: "Stack"
    server: str
    data: Path
    """File of new data; its suffix decides the family of the model."""
    changes: tuple[str, ...] = ()
    """Changed settings of the training and of the published form: ``tune.steps=100``."""
    limits: Limits = field(default_factory=Limits)
    """Change of accuracy that the new model may and must have against the served one."""
    choices: Path | None = None
    """File of questions with choices that a language model must answer; None for no questions."""
    target: str | None = None
    """Target processor; None: that of the served model."""
    training_directory: Path | None = None
    """Directory of the training, if it is in none of the usual places."""
    tracking: str = ""
    """URL of an MLflow server that may have the training; empty for none."""
    processes: int = 1
    until: Stage = Stage.UP

    def changes_of(self, prefix: str) -> list[str]:
        """Return the changes that begin with *prefix*, without it."""
        return [change.removeprefix(prefix) for change in self.changes if change.startswith(prefix)]

    @property
    def resume_help(self) -> str:
        """The sentence with the command of this request, which continues its iteration.

        Without --tracking: a fetched checkpoint is in the cache. Without --yes: it would answer a later question.
        """
        given: dict[str, object] = {
            "--from": self.training_directory,
            **{f"--{name.replace('_', '-')}": value for name, value in _changes(self.limits).items()},
            "--choices": self.choices,
            "--target": self.target,
            "--processes": self.processes if self.processes != 1 else None,
        }
        words: list[object] = [self.stack.name, self.server, "--data", self.data]
        words += [word for option, value in given.items() if value is not None for word in (option, value)]
        words += [word for change in self.changes for word in ("--set", change)]
        words += ["--until", self.until.value] if self.until is not Stage.UP else []
        again = command(f"rackwright server iterate{' {}' * len(words)}", *words)
        return f"Run {again}, which continues with this stage"

    @property
    def data_limits(self) -> Limits:
        """The limits on data sets: if there are questions with choices, the floor is for those."""
        return self.limits if self.choices is None else replace(self.limits, at_least=None)

    @property
    def copied_data(self) -> str:
        """Name of the copy of the new data, in the directory of the iteration."""
        return f"data{self.data.suffix}"


def _changes(limits: Limits) -> dict[str, float]:
    """Return those of *limits* that are not the default."""
    usual = Limits().as_data()
    return {name: value for name, value in limits.as_data().items() if value != usual.get(name)}


def iteration_id(key: Mapping[str, Any]) -> str:
    """Return the id of the iteration with that *key*, the name of its directory."""
    return sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:12]
