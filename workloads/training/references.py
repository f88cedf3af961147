"""The reference of preferences: log-probabilities of all answers by the weights that a run starts from."""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from torch import Tensor, nn

from workloads.errors import Diagnostic, UserError
from workloads.training import data
from workloads.training.config import Preferences, TrainingConfig
from workloads.training.data import Examples
from workloads.training.evaluation import answer_log_probs
from workloads.training.fine_tuning import FineTuningState

if TYPE_CHECKING:
    from workloads.training.loop import RunContext


def measure(
    model: nn.Module,
    examples: Examples,
    config: TrainingConfig,
    tuning: FineTuningState | None,
    context: "RunContext",
) -> dict[str, Tensor] | None:
    """Return the log-probabilities of *examples* and of all held-out sets, if they are pairs, by their digests.

    All processes call it. The result is None after a stop request.
    """
    sets = [examples, *_held_out(config, tuning)]
    pairs = {each.digest(): each for each in sets if each.are_pairs and len(each)}
    if pairs:
        number = sum(map(len, pairs.values()))
        context.metrics.print(f"reference: {number} pairs of answers by the initial weights")
    log_probs = {}
    for digest, each in pairs.items():
        values = answer_log_probs(
            model, each, config.examples_at_once, context.workers, context.device, context.precision, context.stopping
        )
        if values is None:
            return None
        log_probs[digest] = values
    return log_probs


def _held_out(config: TrainingConfig, tuning: FineTuningState | None) -> Iterator[Examples]:
    """Yield the sets that the run evaluates and does not train on."""
    if tuning:
        yield from (each.examples for each in tuning.held_out_sets)
    elif isinstance(config.data, Preferences):
        yield data.held_out(config.data)


def attach(examples: Examples, references: Mapping[str, Tensor]) -> Examples:
    """Return the pairs with their log-probabilities by the reference.

    Raises:
        UserError: The pairs are not those that the run started with.
    """
    digest = examples.digest()
    if digest not in references:
        problem = "the preferences are not those that the run started with"
        note = "only the initial weights give their reference"
        help = "Restore the files of the preferences, or use another --out"
        raise UserError(Diagnostic("data.path", problem, "the same pairs at each start of a run", help, note))
    return Examples(examples.x, examples.y, references[digest])
