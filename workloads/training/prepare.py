"""Checks and loading in one process, before it communicates with the others."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice

from torch import nn

from workloads.errors import Diagnostic, UserError
from workloads.training import (
    acceleration,
    data,
    four_bit,
    isolation,
    memory,
    models,
    order,
    parallel,
    parent_model,
    precision,
)
from workloads.training.checkpointing import check_weights_match
from workloads.training.config import (
    Conversations,
    Data,
    FineTuning,
    HuggingFace,
    ImageClassifier,
    Rows,
    Tokenized,
    TrainingConfig,
)
from workloads.training.device import Device, select_device
from workloads.training.fine_tuning import FineTuningState, HeldOutSet
from workloads.training.fit import layouts
from workloads.training.loop import TrainingInputs
from workloads.training.parent_model import Parent
from workloads.training.precision import Precision
from workloads.training.privacy import refusals
from workloads.training.workers import Workers


@dataclass(frozen=True, slots=True)
class PreparedRun:
    """The device, precision, data and parent of this process, after all checks."""

    config: TrainingConfig
    """The configuration, with the decision whether conversations share examples."""
    device: Device
    precision: Precision
    memory_estimate: memory.MemoryEstimate
    acceleration: acceleration.Acceleration
    inputs: TrainingInputs
    parent: Parent | None
    isolation: isolation.Isolation | None
    """The proof that conversations in one example do not see each other; None if nothing depends on it."""


def prepare(config: TrainingConfig, workers: Workers) -> PreparedRun:
    """Return what this process needs for the run.

    Raises:
        UserError: The run is not possible on this host; the message gives the reason.
    """
    if config.privacy:
        config = refusals.settle(config)
    device = select_device(config.device, workers.local_rank, workers.local_size)
    four_bit.check(config, device.kind)
    chosen = precision.choose(config.precision, device.architecture, device.name)
    model = models.build_shapes(config.model)
    parallel.check(config, model)
    accelerated = acceleration.choose(config, model, device.kind, chosen, workers.data_size)
    memory_estimate = memory.estimate(
        config, model, workers.shards, workers.data_size, chosen, accelerated, workers.sharded
    )
    memory.check_memory(
        config, memory_estimate, device, lambda: _suggest_layout(config, model, workers, device, chosen)
    )
    parent = None
    if config.fine_tuning:
        parent = parent_model.load_parent(config.fine_tuning)
        _check_adapters(config, parent)
        help = "Use the model in its config.json"
        check_weights_match(parent.model, models.trainable_state(model), f"fine_tuning.parent {parent.path}", help)
    _check_rows(config)
    proof = isolation.prove(config, (config.data, *(parent.data if parent else ())), device.torch)
    config = config.model_copy(update={"data": isolation.settle(config.data, proof)})
    if parent:
        parent = replace(parent, data=tuple(isolation.settle(each, proof) for each in parent.data))
    inputs = _load_inputs(config, parent)
    new = config.global_batch - config.old_examples_per_step
    _check_batch_size("global_batch", new, inputs.examples, [config.data], config.accumulate)
    if inputs.old and parent:
        _check_batch_size("fine_tuning.replay", config.old_examples_per_step, inputs.old, parent.data)
    _check_tokens(models.vocabulary_size(model), inputs.examples)
    return PreparedRun(config, device, chosen, memory_estimate, accelerated, inputs, parent, proof)


def _suggest_layout(
    config: TrainingConfig, model: nn.Module, workers: Workers, device: Device, chosen: Precision
) -> Iterator[str]:
    """Yield the first layout of the processes of a sharded run that fits on *device*."""
    if config.sharding != "full":
        return
    possible = layouts(config, model, workers.size, workers.local_size, device.kind, chosen)
    yield from (f"{layout}" for layout in islice((each for each in possible if each.needed.total <= device.memory), 1))


def _load_inputs(config: TrainingConfig, parent: Parent | None) -> TrainingInputs:
    learned = [config.data.model_dump(mode="json")]
    if config.fine_tuning is None or parent is None:
        own = data.load(config.data)
        return TrainingInputs(own, learned=tuple(learned), sha256=None if config.privacy else own.digest())
    learned += [each.model_dump(mode="json") for each in parent.data]
    old = data.concatenate([data.load(each) for each in parent.data]) if config.old_examples_per_step else None
    own = data.load(config.data)
    if old and data.example_shape(old) != data.example_shape(own):
        problem = f"the old examples have shape {data.example_shape(old)}"
        expected = f"shape {data.example_shape(own)}, as the new examples in the same batches"
        help = "Use data of the same kind"
        if isinstance(config.data, Tokenized):
            length = data.example_shape(old)[0]
            help = f"Set data.sequence_length={length}, or name the old data with the new length as fine_tuning.old"
        raise UserError(Diagnostic("fine_tuning.replay", problem, expected, help))
    tuning = _tuning(config, config.fine_tuning, parent)
    return TrainingInputs(own, old, parent.model, tuning, tuple(learned), None if config.privacy else own.digest())


def _check_adapters(config: TrainingConfig, parent: Parent) -> None:
    """Raise if one of the run and its parent trains adapters, and the other the whole model."""
    has_adapters = isinstance(config.model, HuggingFace) and config.model.lora is not None
    if has_adapters == parent.has_adapters:
        return
    forms = {True: "adapters", False: "the whole model"}
    merging = " --merge-adapters" if parent.has_adapters else ""
    export = f"`python -m workloads.export RUN --to huggingface{merging} --out DIR`"
    help = f"Export the parent with {export}, and write model.path=DIR in place of fine_tuning"
    problem, expected = f"it trained {forms[parent.has_adapters]}", f"{forms[has_adapters]}, as in this run"
    raise UserError(Diagnostic(f"fine_tuning.parent {parent.path}", problem, expected, help))


def _tuning(config: TrainingConfig, fine_tuning: FineTuning, parent: Parent) -> FineTuningState:
    held_out_sets = []
    for where, each in (("data", config.data), *(("fine_tuning.old", old) for old in parent.data)):
        examples = data.held_out(each)
        if not len(examples):
            problem = f"{HeldOutSet(each, examples).name} has no held-out examples"
            note = "parent and child are compared on examples that neither was trained on"
            raise UserError(Diagnostic(where, problem, help=f"Set held_out of {where}", note=note))
        held_out_sets.append(HeldOutSet(each, examples))
    return FineTuningState(fine_tuning, held_out_sets)


def _check_batch_size(
    where: str, batch: int, examples: data.Examples, sets: Sequence[Data], accumulate: int = 1
) -> None:
    if order.batches_in(len(examples), batch) == 0:
        packed = [each.sequence_length for each in sets if isinstance(each, Conversations) and each.packed is True]
        note = f"several conversations share one example of {packed[0]} tokens" if packed else ""
        divided = f" that accumulate={accumulate} divides" if accumulate > 1 else ""
        help = f"Use more data, {'a shorter data.sequence_length, ' if packed else ''}or a smaller batch{divided}"
        problem = f"a batch of {batch} is more than the data has"
        raise UserError(Diagnostic(where, problem, f"at most {len(examples)} examples", help, note))


def _check_tokens(vocabulary_size: int | None, examples: data.Examples) -> None:
    if vocabulary_size is not None and int(examples.x.max()) >= vocabulary_size:
        problem, help = f"the text has the token {int(examples.x.max())}", "Name the model's own tokenizer"
        raise UserError(Diagnostic("data.tokenizer", problem, f"tokens below {vocabulary_size}", help))


def _check_rows(config: TrainingConfig) -> None:
    """Raise if the images or labels of a file of rows do not fit the model's inputs and classes."""
    if not isinstance(config.data, Rows) or not isinstance(config.model, ImageClassifier):
        return
    examples = data.concatenate([data.load(config.data), data.held_out(config.data)])
    side, classes = config.model.side, config.model.classes
    wrong = [] if examples.x.shape[1:] == (side, side) else [f"images of {tuple(examples.x.shape[1:])}"]
    if len(examples) and not 0 <= int(examples.y.min()) <= int(examples.y.max()) < classes:
        wrong.append(f"labels from {int(examples.y.min())} to {int(examples.y.max())}")
    if wrong:
        problem = f"{config.data.path} has {' and '.join(wrong)}"
        expected = f"images of {side} by {side} pixels, and labels from 0 to {classes - 1}"
        raise UserError(Diagnostic("data.path", problem, expected, "Correct the file"))
