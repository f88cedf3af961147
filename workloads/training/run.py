"""A whole run: everything that can be wrong is found before the first step, on all hosts at once; then the loop."""

import os
import socket
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar

from torch import nn

from workloads.checkpoint import at
from workloads.errors import WorkloadError
from workloads.training import data, elastic, lineage, lora, memory
from workloads.training.checkpointing import Checkpoints, checkpoints_at
from workloads.training.config import HuggingFace, TrainingConfig
from workloads.training.evaluation import Score, score
from workloads.training.fine_tuning import Worse
from workloads.training.loop import RunContext, Training
from workloads.training.metrics import Metrics, elastic_name, file_of
from workloads.training.parent_model import digest_of
from workloads.training.prepare import Prepared, prepare
from workloads.training.stopping import Stopping
from workloads.training.workers import Workers, join
from workloads.training.workers.workers import Alone

T = TypeVar("T")
GRACE_SECONDS = 60
"""How long a run that is told to stop has for its last checkpoint."""


class Refusals(WorkloadError):
    """What is wrong, on whichever hosts."""

    def __init__(self, texts: list[str]) -> None:
        Exception.__init__(self, "\n".join(texts))


def train(
    config: TrainingConfig,
    out: Path,
    environment: Mapping[str, str],
    stop_at: int | None = None,
    publish_worse: str | None = None,
    opened: Callable[..., Checkpoints] = checkpoints_at,
) -> bool:
    """Run *config* to its end, or to *stop_at* steps; return False if it was told to stop before.

    Args:
        out: Receives the configuration, metrics and checkpoints; where it has checkpoints the run goes on from them.
        environment: What the launcher has told this process.
        publish_worse: Why a fine-tuning goes out that is worse than its parent; None: it does not.

    Raises:
        WorkloadError: it cannot run so; before the first step, except that a loss may become no number.
        Worse: it has been trained, and is worse than its parent.
    """
    workers = join(config, environment)
    try:
        prepared = _together(workers, config, lambda: prepare(config, workers))
        name = elastic_name(environment) if config.elastic else str(workers.rank)
        metrics = Metrics(file_of(out, name), lambda: workers.rank == 0)
        part: dict[str, int | str] = {}
        if workers.sharded:
            part = {"rank": workers.rank, "world": workers.size, "run": workers.broadcast(uuid.uuid4().hex)}
        with Stopping(GRACE_SECONDS) as stopping:
            around = RunContext(
                workers, prepared.device, prepared.precision, metrics, stopping,
                lambda: opened(out / "checkpoints", config, **part),
            )  # fmt: skip
            if workers.rank == 0:
                (out / "config.json").write_text(config.model_dump_json(indent=2) + "\n")
                lineage.begin(out, config, prepared.beginning.examples, prepared.parent)
            tell_beginning(config, prepared, around)
            return _run(config, prepared, around, out, stop_at, publish_worse)
    finally:
        workers.leave()


def tell_beginning(config: TrainingConfig, prepared: Prepared, around: RunContext) -> None:
    workers, device, metrics = around.workers, prepared.device, around.metrics
    metrics.tell(
        event="start", name=config.name, launcher=workers.launcher, rank=workers.rank, world=workers.size,
        host=socket.gethostname(), pid=os.getpid(), device=device.kind, device_name=device.name,
        precision=prepared.precision.name, precision_why=prepared.precision.why,
        parameters=prepared.needed.parameters, memory_bytes=prepared.needed.total,
        examples=len(prepared.beginning.examples),
    )  # fmt: skip
    started = "alone" if workers.launcher == "none" else f"{workers.launcher}, world of {workers.size}"
    metrics.say(f"{config.name}: {started}; {device.name}; {prepared.precision.name} ({prepared.precision.why})")
    metrics.say(f"memory of each process: {prepared.needed}; {memory.told(device.memory)} are there")
    if parent := prepared.parent:
        metrics.say(f"begins with the weights of {parent.path}; {config.replayed} of {config.global_batch} are old")


def _run(
    config: TrainingConfig,
    prepared: Prepared,
    around: RunContext,
    out: Path,
    stop_at: int | None,
    publish_worse: str | None,
) -> bool:
    training = Training(config, prepared.beginning, around)
    last = min(config.steps, stop_at or config.steps)
    try:
        _restore(config, training)
        ended = elastic.run(training, last) if config.elastic else training.run(_averaging(training), last)
        _tell_end(config, training)
        training.close()
        if training.done:
            _conclude(config, training, out, publish_worse)
        return ended
    finally:
        training.close()
        around.metrics.close()


def _restore(config: TrainingConfig, training: Training) -> None:
    """Go on from the newest checkpoint: what rank 0 has of it, the others are given, or where it is sharded read."""
    workers = training.around.workers
    step = _together(workers, config, lambda: training.newest() if workers.rank == 0 else None)
    if not config.elastic:  # those that run already wait for a newcomer elsewhere
        step = workers.broadcast(step)
    if step is not None:
        mine = workers.rank == 0 or workers.sharded
        _together(workers, config, lambda: training.restore(step) if mine else None)


def _averaging(training: Training) -> nn.Module:
    """Return the model to be called, once everybody stands where rank 0 does."""
    workers, tuning = training.around.workers, training.tuning
    workers.share(training.model, training.optimizer)
    if not workers.sharded:  # each has read its own part otherwise
        told = (training.step, training.scaler.state_dict(), tuning and tuning.state_dict())
        training.step, scaler, of_tuning = workers.broadcast(told)
        training.scaler.load_state_dict(scaler)
        if tuning and of_tuning:
            tuning.load_state_dict(of_tuning)
    if training.step:
        training.around.metrics.say(f"goes on after step {training.step}")
    model, training.optimizer = workers.average(training.model, training.optimizer)
    return model


def _tell_end(config: TrainingConfig, training: Training) -> None:
    around = training.around
    event = "finished" if training.done else "stopped"
    scored = _scored(config, training) if training.done else None
    scores = {f"held_out_{name}": value for name, value in scored._asdict().items()} if scored else {}
    around.metrics.tell(event=event, step=training.step, **scores)
    told = "".join(f", {name.replace('_', ' ')} {value:.3f}" for name, value in scores.items())
    around.metrics.say(f"{event} at step {training.step} of {config.steps}{told}")


def _scored(config: TrainingConfig, training: Training) -> Score | None:
    """Return how well the model does on what it has not seen, where something was held out; not on all ranks."""
    around = training.around
    if training.tuning:
        return training.tuning.scores[0]
    unseen = data.held_out(config.data)
    if not len(unseen) or not (around.workers.rank == 0 or around.workers.sharded):
        return None
    workers = around.workers if around.workers.sharded else Alone()  # the others may have left an elastic run
    return score(training.model, unseen, config.global_batch, workers, around.device, around.precision)


def _conclude(config: TrainingConfig, training: Training, out: Path, publish_worse: str | None) -> None:
    """Say what has come of the run, once its last checkpoint is there.

    Raises:
        Worse: it is not published.
    """
    worse: Worse | None = None
    try:
        if training.tuning:
            training.tuning.refuse_worse()
    except Worse as refusal:
        worse = refusal
    adapted = config.model.lora if isinstance(config.model, HuggingFace) else None
    adapters = lora.tensors(training.model) if adapted else {}
    if training.around.workers.rank == 0:
        checkpoint = digest_of(at(out / "checkpoints", training.step))
        forced = publish_worse if worse else None
        lineage.end(out, training.step, checkpoint, training.tuning, worse is None or forced is not None, forced)
        if isinstance(config.model, HuggingFace) and adapted:
            lora.write(adapters, adapted, config.model.path, out / "adapter")
    if worse and publish_worse is None:
        raise worse
    if worse:
        training.around.metrics.say(f"published though worse ({publish_worse}): {worse}")


def _together(workers: Workers, config: TrainingConfig, do: Callable[[], T]) -> T:
    """Return what *do* returns here; where it is refused to any process, all of them raise what is wrong, and where."""
    if config.elastic:  # those that run already wait for a newcomer elsewhere, and are not to be asked
        return do()
    refusal, done = "", None
    try:
        done = do()
    except WorkloadError as error:
        refusal = f"{socket.gethostname()}: {error}" if workers.size > 1 else str(error)
    if refusals := [text for text in dict.fromkeys(workers.all_gather(refusal)) if text]:
        raise Refusals(refusals)
    return done  # type: ignore[return-value]
