"""A complete run: checks on all hosts before the first step, then the training loop."""

import gc
import json
import os
import socket
import uuid
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TypeVar

from torch import nn

from workloads.checkpoint import at_step
from workloads.errors import Diagnostic, UserError
from workloads.training import conversations, data, elastic, lineage, lora, memory, records, space
from workloads.training.checkpointing import TrainingCheckpoints, open_checkpoints
from workloads.training.config import HuggingFace, Tasks, TrainingConfig
from workloads.training.evaluation import EvaluationScore
from workloads.training.fine_tuning import NothingLearned, NotPublished
from workloads.training.loop import RunContext, Training
from workloads.training.metrics import MetricsLog, elastic_name, file_of
from workloads.training.parent_model import checkpoint_digest
from workloads.training.plan import PROVENANCE
from workloads.training.prepare import PreparedRun, prepare
from workloads.training.stopping import StopRequest
from workloads.training.tokenizer import export_warning
from workloads.training.workers import Workers, join
from workloads.training.workers.workers import Alone

T = TypeVar("T")
GRACE_SECONDS = 60
"""Time that a stopped run has for its last checkpoint."""


def train(
    config: TrainingConfig,
    out: Path,
    environment: Mapping[str, str],
    stop_at: int | None = None,
    publish_worse: str | None = None,
    checkpoint_factory: Callable[..., TrainingCheckpoints] = open_checkpoints,
) -> bool:
    """Run *config* to its end, or to *stop_at* steps; return False if a stop request ended the run before.

    Args:
        out: Directory for the configuration, metrics and checkpoints; the run resumes from checkpoints in it.
        environment: Variables that the launcher sets for this process.
        publish_worse: Reason to publish a model that is worse than its parent or has learned nothing; None to refuse.

    Raises:
        UserError: A check before the first step failed, or a number is not finite.
        NotPublished: The trained model is worse than its parent, or has learned nothing.
    """
    workers = join(config, environment)
    try:
        return _train(config, workers, out, environment, stop_at, publish_worse, checkpoint_factory)
    finally:
        # models that average gradients have the process group, whose threads must end before the interpreter does
        gc.collect()
        workers.leave()


def _train(
    config: TrainingConfig,
    workers: Workers,
    out: Path,
    environment: Mapping[str, str],
    stop_at: int | None,
    publish_worse: str | None,
    checkpoint_factory: Callable[..., TrainingCheckpoints],
) -> bool:
    prepared = _run_on_all(workers, config, lambda: prepare(config, workers))
    _check_same_proof(workers, prepared)
    config = prepared.config
    name = elastic_name(environment) if config.elastic else str(workers.rank)
    metrics = MetricsLog(file_of(out, name), lambda: workers.rank == 0)
    part: dict[str, int | str] = {}
    if workers.sharded:
        part = {"rank": workers.shard, "world": workers.shards, "run": workers.broadcast(uuid.uuid4().hex)}
    with StopRequest(GRACE_SECONDS) as stopping:
        context = RunContext(
            workers, prepared.device, prepared.precision, metrics, stopping,
            lambda: checkpoint_factory(out / "checkpoints", config, **part),
        )  # fmt: skip
        log_start(config, prepared, context)
        declared = PROVENANCE in environment
        return _run(config, prepared, context, out, declared, stop_at, publish_worse)


def _check_same_proof(workers: Workers, prepared: PreparedRun) -> None:
    """Raise if processes decide differently whether conversations share examples: their batches would differ.

    Raises:
        UserError: The message gives the results.
    """
    if prepared.config.elastic or prepared.isolation is None:  # the active processes wait for a new one elsewhere
        return
    results = dict.fromkeys(workers.all_gather(f"{prepared.isolation}"))
    if len(set(workers.all_gather(f"{prepared.isolation.is_proved}"))) > 1:
        problem = f"processes differ about conversations: {'; '.join(results)}"
        help = "Use the same device and software on all hosts, or write packed: false"
        raise UserError(Diagnostic("data.packed", problem, "the same result in all processes", help))


def log_start(config: TrainingConfig, prepared: PreparedRun, context: RunContext) -> None:
    workers, device, metrics = context.workers, prepared.device, context.metrics
    metrics.log(
        event="start", name=config.name, launcher=workers.launcher, rank=workers.rank, world=workers.size,
        host=socket.gethostname(), pid=os.getpid(), device=device.kind, device_name=device.name,
        precision=prepared.precision.name, precision_why=prepared.precision.why,
        parameters=prepared.memory_estimate.parameters, memory_bytes=prepared.memory_estimate.total,
        examples=len(prepared.inputs.examples), isolation=prepared.isolation and prepared.isolation.as_data(),
        left_out={} if config.privacy else dict(prepared.inputs.examples.left_out),
    )  # fmt: skip
    launch = "one process" if workers.launcher == "none" else f"{workers.launcher}, world of {workers.size}"
    metrics.print(f"{config.name}: {launch}; {device.name}; {prepared.precision.name} ({prepared.precision.why})")
    available = memory.format_bytes(device.memory)
    metrics.print(f"memory of each process: {prepared.memory_estimate}; {available} available")
    metrics.print(f"acceleration: {prepared.acceleration}")
    examples = prepared.inputs.examples
    if examples.counts and not config.privacy:
        metrics.print(f"data: {examples.counts}")
    if examples.left_out and not config.privacy:
        metrics.print(f"left out of the data: {conversations.describe(examples.left_out, examples.lengths)}")
    if examples.unread and not config.privacy:
        metrics.print(f"keys of messages that no chat template reads: {records.describe_keys(examples.unread)}")
    if prepared.isolation:
        metrics.print(f"conversations: {prepared.isolation}")
    tokenizer = getattr(config.data, "tokenizer", None)
    if tokenizer and workers.rank == 0 and (warning := export_warning(tokenizer)):
        metrics.print(f"warning: {warning}")
    if parent := prepared.parent:
        old = f"{config.old_examples_per_step} of {config.global_batch} examples are old"
        metrics.print(f"starts from the weights of {parent.path}; {old}")


def _run(
    config: TrainingConfig,
    prepared: PreparedRun,
    context: RunContext,
    out: Path,
    declared: bool,
    stop_at: int | None,
    publish_worse: str | None,
) -> bool:
    training = _new_training(config, prepared, context, out)
    if training.balancer.has_routers:
        context.metrics.print(f"experts: {training.balancer}")
    last = min(config.steps, stop_at or config.steps)
    try:
        restore_newest(config, training)
        _check_space(config, training, out, last)
        if context.workers.rank == 0:  # not before: a start that is refused leaves the files of an earlier run
            (out / "config.json").write_text(config.model_dump_json(indent=2) + "\n")
            lineage.write_start(out, prepared, training.earlier_data, declared)
        _score_start(config, training)
        complete = elastic.run(training, last) if config.elastic else training.run(_synchronize_workers(training), last)
        training.close()
        _run_on_all(training.context.workers, config, partial(_check_saved, training, out))
        log_end(config, training)
        if training.is_done:
            _publish(config, training, out, publish_worse)
        return complete
    finally:
        training.close()
        context.metrics.close()


def _new_training(config: TrainingConfig, prepared: PreparedRun, context: RunContext, out: Path) -> Training:
    if config.privacy is None:
        return Training(config, prepared.inputs, context)
    from workloads.training.privacy.training import PrivateTraining  # imported here: other runs do not need opacus

    return PrivateTraining(config, prepared.inputs, context, out)


def restore_newest(config: TrainingConfig, training: Training) -> None:
    """Resume from the newest checkpoint: the processes of the first copy read it, and others receive it from them."""
    workers = training.context.workers
    if config.elastic:  # the active processes wait for a new one in Horovod's own exchange
        step = training.newest() if workers.rank == 0 else None
    else:
        step = _newest_proved(workers, config, training)
    if step is not None:
        reads = workers.rank < workers.shards
        _run_on_all(workers, config, lambda: training.restore(step) if reads else None)


def _check_space(config: TrainingConfig, training: Training, out: Path, last: int) -> None:
    """Raise on all processes unless the drive has room for the checkpoints of all of them."""
    workers, steps = training.context.workers, last - training.step
    if steps <= 0:
        return
    own = training.state_bytes()
    size = own if config.elastic else sum(workers.all_gather(own))  # no process may communicate before an elastic run
    leads = workers.rank == 0
    action = partial(space.check_space, out / "checkpoints", size, config.saving, steps)
    _run_on_all(workers, config, action if leads else lambda: None)


def _check_saved(training: Training, out: Path) -> None:
    """Raise if the last save of this process failed."""
    if training.save_failure:
        last = training.last_committed or training.restored
        raise space.not_saved(out / "checkpoints", training.step, training.save_failure, last)


def _newest_proved(workers: Workers, config: TrainingConfig, training: Training) -> int | None:
    """Return the step of the newest good checkpoint, of which each process of the first copy has read its own shard."""
    saves = workers.rank < workers.shards
    steps = _run_on_all(workers, config, lambda: training.steps() if saves else [])
    for step in workers.broadcast(steps):
        flaws = workers.all_gather(_run_on_all(workers, config, partial(_prove, training, step, saves)))
        damages = [damage for damage, _ in flaws if damage]
        reasons = [reason for _, reason in flaws if reason]
        if not damages and not reasons:
            training.accept(step)
            return int(step)
        if workers.rank == 0:
            training.reject(step, "; ".join(damages), "; ".join(reasons))
    return None


def _prove(training: Training, step: int, saves: bool) -> tuple[str, str]:
    return training.prove(step) if saves else ("", "")


def _synchronize_workers(training: Training) -> nn.Module:
    """Return the model to call, after all processes have the state of rank 0."""
    workers, tuning = training.context.workers, training.tuning
    workers.broadcast_state(training.model, training.optimizer)
    if workers.shards < workers.size:  # otherwise each process has read its own shard
        state = (
            training.step, training.scaler.state_dict(), tuning and tuning.state_dict(), training.references,
            training.earlier_data,
        )  # fmt: skip
        training.step, scaler_state, tuning_state, training.references, training.earlier_data = workers.broadcast(state)
        training.last_saved = training.step or None
        training.scaler.load_state_dict(scaler_state)
        if tuning and tuning_state:
            tuning.load_state_dict(tuning_state)
    if training.step:
        training.context.metrics.print(f"resumes after step {training.step}")
    return training.connect()


def log_end(config: TrainingConfig, training: Training) -> None:
    context = training.context
    event = "finished" if training.is_done else "stopped"
    final = _final_score(config, training) if training.is_done else None
    scores = {f"held_out_{name}": value for name, value in final._asdict().items()} if final else {}
    context.metrics.log(event=event, step=training.step, **scores)
    figures = "".join(f", {name.replace('_', ' ')} {value:.3f}" for name, value in scores.items())
    context.metrics.print(f"{event} at step {training.step} of {config.steps}{figures}")


def _score_start(config: TrainingConfig, training: Training) -> None:
    """Report the reward of the initial weights on the held-out tasks, which the end of the run is compared with."""
    if not isinstance(config.data, Tasks) or training.step or training.tuning:
        return
    if score := _unseen_score(config, training):
        training.context.metrics.log(event="evaluated", step=0, data=config.data.path, **score._asdict())
        figure = f"accuracy {score.accuracy:.4f} on the held-out part of {config.data.path}"
        training.context.metrics.print(f"step 0: {figure}")


def _final_score(config: TrainingConfig, training: Training) -> EvaluationScore | None:
    """Return the score on the held-out examples; None without such examples, and on ranks that do not compute it.

    A run with differential privacy has none: the held-out rows are private, too.
    """
    if config.privacy:
        return None
    return training.tuning.scores[0] if training.tuning else _unseen_score(config, training)


def _unseen_score(config: TrainingConfig, training: Training) -> EvaluationScore | None:
    """Return the score on the examples that the run does not train on; None as `_final_score` does."""
    context = training.context
    unseen = data.held_out(config.data)
    if not len(unseen) or not (context.workers.rank == 0 or context.workers.sharded):
        return None
    # the other processes may have left an elastic run
    return training.score(unseen, context.workers if context.workers.sharded else Alone())


def _publish(config: TrainingConfig, training: Training, out: Path, publish_worse: str | None) -> None:
    """Write the result of the run and publish it, after the last checkpoint.

    Raises:
        NotPublished: The model is worse than its parent, or has learned nothing.
    """
    worse: NotPublished | None = None
    try:
        _check_learned(training)
        if training.tuning:
            training.tuning.check_not_worse()
    except NotPublished as refusal:
        worse = refusal
    lora_config = config.model.lora if isinstance(config.model, HuggingFace) else None
    adapters = lora.adapter_tensors(training.model) if lora_config else {}
    if training.context.workers.rank == 0:
        checkpoint = checkpoint_digest(at_step(out / "checkpoints", training.step))
        attack = training.attack.model_dump() if training.attack else None
        lineage.write_end(out, training.step, checkpoint, training.tuning, worse, publish_worse, attack)
        if isinstance(config.model, HuggingFace) and lora_config:
            lora.write_adapters(adapters, lora_config, config.model.path, out / "adapter")
    if worse and publish_worse is None:
        raise worse
    if worse:
        training.context.metrics.print(f"published all the same ({publish_worse}): {worse.reason}")


def _check_learned(training: Training) -> None:
    """Raise if a run on tasks has seen no difference between the rewards of the answers to any task.

    Raises:
        NothingLearned: No step has changed a weight by a reward.
    """
    if training.examples.tasks and not training.rollouts.have_differed:
        problem = f"in all {training.step} steps, the answers to each task had equal rewards"
        expected = "some right and some wrong answers to a task, which the model learns from"
        help = "Read answers of the model to tasks; use easier tasks, train on some answers first, or raise"
        note = "the model has learned nothing, and is not published"
        raise NothingLearned(Diagnostic("data.rewards", problem, expected, f"{help} grpo.temperature", note))


def _run_on_all(workers: Workers, config: TrainingConfig, action: Callable[[], T]) -> T:
    """Return the result of *action* in this process; if any process raises, all raise the errors of all."""
    if config.elastic:  # the active processes wait for a new one in Horovod's own exchange
        return action()
    message, result = "", None
    try:
        result = action()
    except UserError as error:
        host = f"{socket.gethostname()}: " if workers.size > 1 else ""
        parts = [replace(each, where=host + each.where).as_data() for each in error.diagnostics]
        message = json.dumps({"status": error.exit_status, "diagnostics": parts})
    if messages := [json.loads(text) for text in dict.fromkeys(workers.all_gather(message)) if text]:
        joined = UserError(*(Diagnostic(**parts) for each in messages for parts in each["diagnostics"]))
        joined.exit_status = max(each["status"] for each in messages)
        raise joined
    return result  # type: ignore[return-value]
