"""A whole run: everything that can be wrong is found before the first step, on all hosts at once; then the loop."""

import os
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import torch

from workloads.common.errors import WorkloadError
from workloads.common.stopping import Stopping
from workloads.training import data, elastic, memory, order, precision
from workloads.training.config import Digits, TrainingConfig
from workloads.training.device import Device, pick
from workloads.training.loop import Checkpoints, Surroundings, Training, checkpoints_at
from workloads.training.metrics import Metrics, file_of
from workloads.training.precision import Precision
from workloads.training.workers import Workers, join

T = TypeVar("T")
GRACE_SECONDS = 60
"""How long a run that is told to stop has for its last checkpoint."""


class Refusals(WorkloadError):
    """What is wrong, on whichever hosts."""

    def __init__(self, texts: list[str]) -> None:
        Exception.__init__(self, "\n".join(texts))


@dataclass(frozen=True, slots=True)
class Prepared:
    """What a process has found out before it talks to the others."""

    device: Device
    precision: Precision
    needed: memory.Arithmetic
    examples: data.Examples


def train(
    config: TrainingConfig,
    out: Path,
    environment: Mapping[str, str],
    stop_at: int | None = None,
    opened: Callable[[Path, TrainingConfig], Checkpoints] = checkpoints_at,
) -> bool:
    """Run *config* to its end, or to *stop_at* steps; return False if it was told to stop before.

    Args:
        out: Receives the configuration, metrics and checkpoints; where it has checkpoints the run goes on from them.
        environment: What the launcher has told this process.

    Raises:
        WorkloadError: it cannot run so; before the first step, except that a loss may become no number.
    """
    workers = join(config, environment)
    try:
        prepared = _together(workers, config, lambda: prepare(config, workers))
        name = str(workers.rank)
        if config.elastic:  # ranks change, and two processes would come to write into one file
            name = f"{environment.get('HOROVOD_HOSTNAME', socket.gethostname())}-{workers.local_rank}"
        metrics = Metrics(file_of(out, name), lambda: workers.rank == 0)
        with Stopping(GRACE_SECONDS) as stopping:
            around = Surroundings(
                workers, prepared.device, prepared.precision, metrics, stopping,
                lambda: opened(out / "checkpoints", config),
            )  # fmt: skip
            if workers.rank == 0:
                (out / "config.json").write_text(config.model_dump_json(indent=2) + "\n")
            tell_beginning(config, prepared, around)
            return _run(config, prepared, around, stop_at)
    finally:
        workers.leave()


def prepare(config: TrainingConfig, workers: Workers) -> Prepared:
    """Return what this process needs, or raise what is wrong here."""
    device = pick(config.device, workers.local_rank, workers.local_size)
    chosen = precision.choose(config.precision, device.architecture, device.name)
    needed = memory.arithmetic(config)
    memory.refuse_too_large(config, needed, device)
    examples = data.load(config.data)
    if order.batches_in(len(examples), config.global_batch) == 0:
        got = f"got {config.global_batch}"
        raise WorkloadError("global_batch", got, f"the data has {len(examples)} examples", "Take more data, or less")
    return Prepared(device, chosen, needed, examples)


def tell_beginning(config: TrainingConfig, prepared: Prepared, around: Surroundings) -> None:
    workers, device, metrics = around.workers, prepared.device, around.metrics
    metrics.tell(
        event="start", name=config.name, launcher=workers.launcher, rank=workers.rank, world=workers.size,
        host=socket.gethostname(), pid=os.getpid(), device=device.kind, device_name=device.name,
        precision=prepared.precision.name, precision_why=prepared.precision.why,
        parameters=prepared.needed.parameters, memory_bytes=prepared.needed.total, examples=len(prepared.examples),
    )  # fmt: skip
    started = "alone" if workers.launcher == "none" else f"{workers.launcher}, world of {workers.size}"
    metrics.say(f"{config.name}: {started}; {device.name}; {prepared.precision.name} ({prepared.precision.why})")
    metrics.say(f"memory of each process: {prepared.needed}; {memory.told(device.memory)} are there")


def _run(config: TrainingConfig, prepared: Prepared, around: Surroundings, stop_at: int | None) -> bool:
    workers, metrics = around.workers, around.metrics
    training = Training(config, prepared.examples, around)
    last = min(config.steps, stop_at or config.steps)
    try:
        _together(workers, config, lambda: training.restore() if workers.rank == 0 else None)
        if config.elastic:
            ended = elastic.run(training, last)
        else:
            workers.share(training.model, training.optimizer)
            training.step, scaler = workers.told((training.step, training.scaler.state_dict()))
            training.scaler.load_state_dict(scaler)
            if training.step:
                metrics.say(f"goes on after step {training.step}")
            model, training.optimizer = workers.average(training.model, training.optimizer)
            ended = training.run(model, last)
        finished = training.step >= config.steps
        event = "finished" if finished else "stopped"
        scores = _scores(config, training) if finished and workers.rank == 0 else {}
        metrics.tell(event=event, step=training.step, **scores)
        told = "".join(f", {name.replace('_', ' ')} {value:.3f}" for name, value in scores.items())
        metrics.say(f"{event} at step {training.step} of {config.steps}{told}")
        return ended
    finally:
        training.close()
        metrics.close()


def _scores(config: TrainingConfig, training: Training) -> dict[str, float]:
    """Return how well the model does on what it has not seen, where something was held out."""
    if not isinstance(config.data, Digits) or not config.data.held_out:
        return {}
    unseen = data.held_out(config.data)
    training.model.eval()
    with torch.no_grad():
        answers = training.model(unseen.x.to(training.around.device.torch)).argmax(-1).cpu()
    training.model.train()
    return {"held_out_accuracy": (answers == unseen.y).float().mean().item()}


def _together(workers: Workers, config: TrainingConfig, do: Callable[[], T]) -> T:
    """Return what *do* returns here; where it is refused to any process, all of them raise what is wrong, and where."""
    if config.elastic:  # those that run already wait for a newcomer elsewhere, and are not to be asked
        return do()
    refusal, done = "", None
    try:
        done = do()
    except WorkloadError as error:
        refusal = f"{socket.gethostname()}: {error}" if workers.size > 1 else str(error)
    if refusals := [text for text in dict.fromkeys(workers.gathered(refusal)) if text]:
        raise Refusals(refusals)
    return done  # type: ignore[return-value]
