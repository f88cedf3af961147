"""What a process finds out before it talks to the others: whether this run can be, here."""

from dataclasses import dataclass

from workloads.errors import WorkloadError
from workloads.training import data, memory, models, order, parent_model, precision
from workloads.training.checkpointing import refuse_another_model
from workloads.training.config import FineTuning, ImageClassifier, Rows, TrainingConfig
from workloads.training.device import Device, pick
from workloads.training.fine_tuning import Held, Tuning
from workloads.training.loop import TrainingInputs
from workloads.training.parent_model import Parent
from workloads.training.precision import Precision
from workloads.training.workers import Workers


@dataclass(frozen=True, slots=True)
class Prepared:
    """What it has found."""

    device: Device
    precision: Precision
    needed: memory.Arithmetic
    beginning: TrainingInputs
    parent: Parent | None


def prepare(config: TrainingConfig, workers: Workers) -> Prepared:
    """Return what this process needs.

    Raises:
        WorkloadError: says what is wrong here.
    """
    device = pick(config.device, workers.local_rank, workers.local_size)
    chosen = precision.choose(config.precision, device.architecture, device.name)
    model = models.shapes(config.model)
    shards, width = workers.size if workers.sharded else 1, 4 if chosen.name == "fp32" else 2
    needed = memory.arithmetic(config, model, shards, workers.size, width)
    memory.refuse_too_large(config, needed, device)
    parent = None
    if config.fine_tuning:
        parent = parent_model.read(config.fine_tuning)
        fix = "Take the model that its config.json has"
        refuse_another_model(parent.model, models.trained(model), f"fine_tuning.parent {parent.path}", fix)
    _refuse_other_rows(config)
    beginning = _beginning(config, parent)
    _refuse_too_few("global_batch", config.global_batch - config.replayed, beginning.examples)
    if beginning.old:
        _refuse_too_few("fine_tuning.replay", config.replayed, beginning.old)
    _refuse_unknown_tokens(models.vocabulary(model), beginning.examples)
    return Prepared(device, chosen, needed, beginning, parent)


def _beginning(config: TrainingConfig, parent: Parent | None) -> TrainingInputs:
    learned = [config.data.model_dump(mode="json")]
    if config.fine_tuning is None or parent is None:
        return TrainingInputs(data.load(config.data), learned=tuple(learned))
    learned += [each.model_dump(mode="json") for each in parent.data]
    old = data.together([data.load(each) for each in parent.data]) if config.replayed else None
    own = data.load(config.data)
    if old and old.x.shape[1:] != own.x.shape[1:]:
        got = f"got old examples of {tuple(old.x.shape[1:])}"
        fix = "Write data of the same kind and length"
        raise WorkloadError("fine_tuning.replay", got, f"they share batches with {tuple(own.x.shape[1:])}", fix)
    return TrainingInputs(own, old, parent.model, _tuning(config, config.fine_tuning, parent), tuple(learned))


def _tuning(config: TrainingConfig, fine_tuning: FineTuning, parent: Parent) -> Tuning:
    held = []
    for where, each in (("data", config.data), *(("fine_tuning.old", old) for old in parent.data)):
        examples = data.held_out(each)
        if not len(examples):
            got, fix = f"got nothing held out of {Held(each, examples).name}", f"Write {where} with a held_out"
            raise WorkloadError(where, got, "parent and child are compared by what neither has learned from", fix)
        held.append(Held(each, examples))
    return Tuning(fine_tuning, held)


def _refuse_too_few(where: str, batch: int, examples: data.Examples) -> None:
    if order.batches_in(len(examples), batch) == 0:
        raise WorkloadError(
            where, f"got {batch}", f"the data has {len(examples)} examples", "Take more data, or less"
        )  # fmt: skip


def _refuse_unknown_tokens(known: int | None, examples: data.Examples) -> None:
    if known is not None and int(examples.x.max()) >= known:
        got, fix = f"got the token {int(examples.x.max())}", "Name the model's own tokenizer"
        raise WorkloadError("data.tokenizer", got, f"the model knows those below {known}", fix)


def _refuse_other_rows(config: TrainingConfig) -> None:
    """Raise where rows of a file, which know nothing of the model, are not what it takes and gives."""
    if not isinstance(config.data, Rows) or not isinstance(config.model, ImageClassifier):
        return
    examples = data.together([data.load(config.data), data.held_out(config.data)])
    side, classes = config.model.side, config.model.classes
    got = [] if examples.x.shape[1:] == (side, side) else [f"images of {tuple(examples.x.shape[1:])}"]
    if len(examples) and not 0 <= int(examples.y.min()) <= int(examples.y.max()) < classes:
        got.append(f"labels from {int(examples.y.min())} to {int(examples.y.max())}")
    if got:
        want = f"the model takes {side} by {side} pixels, and knows classes 0 to {classes - 1}"
        raise WorkloadError("data.path", f"got {' and '.join(got)} in {config.data.path}", want, "Mend the file")
