"""A fine-tuning as it gets on: its parent's scores, its best weights so far, when it is done, and if it may go out."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from workloads.errors import WorkloadError
from workloads.training import sharded
from workloads.training.config import Data, Digits, FineTuning
from workloads.training.data import Examples
from workloads.training.evaluation import Score

Scoring = Callable[[Examples], Score]


@dataclass(frozen=True, slots=True)
class Held:
    """A set of data by what is held out of it."""

    data: Data
    examples: Examples

    @property
    def name(self) -> str:
        if isinstance(self.data, Digits):
            return f"digits {', '.join(map(str, self.data.only))}" if self.data.only else "digits"
        return self.data.path


class Worse(WorkloadError):
    """A child that is worse than its parent."""

    exit_status = 1


class Tuning:
    """Where a fine-tuning stands. Everybody calls every method, with the same scores."""

    def __init__(self, config: FineTuning, held: Sequence[Held]) -> None:
        """
        Args:
            held: Of its own data, then of the old.
        """
        self.config, self.held = config, tuple(held)
        self.parent: list[Score] = []
        """What the weights that it began with score, set by set."""
        self.scores: list[Score] = []
        """What its best weights score, once it has ended."""
        self.best_step: int | None = None
        self.done = False
        """Whether patience is over."""
        self._loss, self._waited = 0.0, 0
        self._weights: Mapping[str, Tensor] = {}

    def begin(self, score: Scoring) -> None:
        if not self.parent:
            self.parent = [score(held.examples) for held in self.held]

    def look(self, step: int, score: Scoring, weights: Mapping[str, Tensor]) -> list[Score]:
        """Score *weights*, keep them if they are the best by the mean loss of all sets, and return the scores."""
        scores = [score(held.examples) for held in self.held]
        loss = sum(each.loss for each in scores) / len(scores)
        if self.best_step is None or loss < self._loss:
            self.best_step, self._loss, self._waited = step, loss, 0
            parts = sharded.local(weights)
            self._weights = {name: part.detach().to("cpu", copy=True) for name, part in parts.items()}
        else:
            self._waited += 1
            self.done = self._waited == self.config.patience
        return scores

    def conclude(self, score: Scoring, weights: Mapping[str, Tensor]) -> None:
        """Put the best weights into *weights*, and score them."""
        sharded.put(weights, self._weights)
        self._weights = {}
        self.scores = [score(held.examples) for held in self.held]

    def refuse_worse(self) -> None:
        """Raise where it is less accurate than its parent by more than it may be, on any of the sets.

        Raises:
            Worse: says where, and by how much.
        """
        lost = [
            f"{own.accuracy:.4f} on {held.name}, where its parent has {parent.accuracy:.4f}"
            for held, own, parent in zip(self.held, self.scores, self.parent, strict=True)
            if own.accuracy < parent.accuracy - self.config.may_lose - 1e-9  # a sum of floats
        ]
        if lost:
            got = f"got an accuracy of {'; and '.join(lost)}"
            want = f"it may lose {self.config.may_lose:g}, and is not published"
            fix = "Replay more of the old data, or start it again with --publish-worse REASON"
            raise Worse("fine_tuning", got, want, fix)

    def state_dict(self) -> dict[str, Any]:
        return {
            "parent": [list(score) for score in self.parent],
            "scores": [list(score) for score in self.scores],
            "best": [self.best_step, self._loss, self._waited],
            "done": self.done,
            "weights": dict(self._weights),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.parent = [Score(*score) for score in state["parent"]]
        self.scores = [Score(*score) for score in state["scores"]]
        self.best_step, self._loss, self._waited = state["best"]
        self.done, self._weights = state["done"], state["weights"]
