"""The progress of a fine-tuning: parent scores, best weights, early stop, and the check before publication."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from workloads.errors import Diagnostic, UserError
from workloads.training import sharded
from workloads.training.config import Data, Digits, FineTuning
from workloads.training.data import Examples, count_answers
from workloads.training.evaluation import EvaluationScore

ScoreFunction = Callable[[Examples], EvaluationScore]


@dataclass(frozen=True, slots=True)
class HeldOutSet:
    """A data set with its held-out examples."""

    data: Data
    examples: Examples

    @property
    def name(self) -> str:
        if isinstance(self.data, Digits):
            return f"digits {', '.join(map(str, self.data.only))}" if self.data.only else "digits"
        return self.data.path

    @property
    def answers(self) -> int:
        """Number of answers that are scored: one for an image, each learned position of a text, a pair or a task."""
        return len(self.examples) if self.examples.tasks else int(count_answers(self.examples.y))


class NotPublished(UserError):
    """A trained model that is published only with a reason."""

    exit_status = 1

    @property
    def reason(self) -> str:
        """The reason against its publication."""
        return "; and ".join(each.problem for each in self.diagnostics)


class WorseThanParent(NotPublished):
    """A fine-tuned model that is less accurate than its parent."""


class NothingLearned(NotPublished):
    """A model whose answers have never had different rewards."""


class FineTuningState:
    """The state of a fine-tuning. All processes call each method, with the same scores."""

    def __init__(self, config: FineTuning, held_out_sets: Sequence[HeldOutSet]) -> None:
        """
        Args:
            held_out_sets: The set of its own data, then those of the old data.
        """
        self.config, self.held_out_sets = config, tuple(held_out_sets)
        self._digests = [held_out.examples.digest() for held_out in self.held_out_sets]
        self.parent_scores: list[EvaluationScore] = []
        """Scores of the initial weights, one for each set."""
        self.scores: list[EvaluationScore] = []
        """Scores of the best weights, available at the end."""
        self.best_step: int | None = None
        self.out_of_patience = False
        """Whether the loss has not improved for `patience` evaluations."""
        self._loss, self._evaluations_without_gain = 0.0, 0
        self._weights: Mapping[str, Tensor] = {}

    def score_parent(self, score: ScoreFunction) -> None:
        if not self.parent_scores:
            self.parent_scores = [score(held_out.examples) for held_out in self.held_out_sets]

    def evaluate(self, step: int, score: ScoreFunction, weights: Mapping[str, Tensor]) -> list[EvaluationScore]:
        """Score *weights*, keep them if they are the best by the mean loss of all sets, and return the scores.

        The best of a run on tasks is the best by its own set.
        """
        scores = [score(held_out.examples) for held_out in self.held_out_sets]
        # a reward and a loss have no common mean
        judged = scores[:1] if self.held_out_sets[0].examples.tasks else scores
        loss = sum(each.loss for each in judged) / len(judged)
        if self.best_step is None or loss < self._loss:
            self.best_step, self._loss, self._evaluations_without_gain = step, loss, 0
            parts = sharded.local_state(weights)
            self._weights = {name: part.detach().to("cpu", copy=True) for name, part in parts.items()}
        else:
            self._evaluations_without_gain += 1
            self.out_of_patience = self._evaluations_without_gain == self.config.patience
        return scores

    def restore_best(self, score: ScoreFunction, weights: Mapping[str, Tensor]) -> None:
        """Copy the best weights into *weights* and score them."""
        sharded.copy_into(weights, self._weights)
        self._weights = {}
        self.scores = [score(held_out.examples) for held_out in self.held_out_sets]

    def check_not_worse(self) -> None:
        """Raise if the model loses more accuracy against its parent than `may_lose`, on any set.

        Raises:
            WorseThanParent: The message names the sets and both accuracies.
        """
        losses = [
            f"{own.accuracy:.4f} on {held_out.name}, where its parent has {parent.accuracy:.4f}"
            for held_out, own, parent in zip(self.held_out_sets, self.scores, self.parent_scores, strict=True)
            if own.accuracy < parent.accuracy - self.config.may_lose - 1e-9  # tolerance for sums of floats
        ]
        if losses:
            problem = f"the accuracy is {'; and '.join(losses)}"
            expected = f"a loss of at most {self.config.may_lose:g}"
            help = f"{self._help()}, or start the run again with --publish-worse REASON"
            raise WorseThanParent(Diagnostic("fine_tuning", problem, expected, help, "the model is not published"))

    def _help(self) -> str:
        """Return the remedy for a model that is worse: preferences and tasks share no batches with old data."""
        own = self.held_out_sets[0].examples
        alone = own.are_pairs or own.tasks
        return f"{'Train' if alone else 'Replay more of the old data (fine_tuning.replay), or train'} more slowly"

    def check_same_examples(self, state: Mapping[str, Any] | None, where: str) -> None:
        """Raise unless *state*, of the checkpoint *where*, has the scores of the parent on these held-out examples.

        Raises:
            UserError: The message names the first set with other examples.
        """
        known = (state or {}).get("examples")
        own = self._digests
        if known is None or known == own:
            return
        names = [each.name for each in self.held_out_sets]
        changed = [name for name, digest in zip(names, own, strict=True) if digest not in known]
        problem = "the held-out examples are not those by which its parent was scored"
        found = f"those of {changed[0]} are new" if changed else f"there are {len(own)} sets instead of {len(known)}"
        help = "Restore the data, or use another --out; a fine-tuning can start from this run as its parent"
        raise UserError(Diagnostic(where, f"{problem}: {found}", "the same data in each start of a run", help))

    def state_dict(self) -> dict[str, Any]:
        return {
            "examples": self._digests,
            "parent": [list(score) for score in self.parent_scores],
            "scores": [list(score) for score in self.scores],
            "best": [self.best_step, self._loss, self._evaluations_without_gain],
            "done": self.out_of_patience,
            "weights": dict(self._weights),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.parent_scores = [EvaluationScore(*score) for score in state["parent"]]
        self.scores = [EvaluationScore(*score) for score in state["scores"]]
        self.best_step, self._loss, self._evaluations_without_gain = state["best"]
        self.out_of_patience, self._weights = state["done"], state["weights"]
