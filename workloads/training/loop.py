"""The loop: a step after the other until there are enough, the same for every device, precision and launcher."""

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DistributedSampler

from workloads.common.errors import WorkloadError
from workloads.common.stopping import Stopping
from workloads.training import order
from workloads.training.config import TrainingConfig
from workloads.training.data import Examples
from workloads.training.device import Device
from workloads.training.metrics import Metrics
from workloads.training.models import build
from workloads.training.precision import Precision, Scaler
from workloads.training.schedule import learning_rate
from workloads.training.workers import Workers


class Found(Protocol):
    @property
    def step(self) -> int: ...


class Checkpoints(Protocol):
    """What the loop asks of `workloads.common.checkpoint.Checkpoints`."""

    def save(self, step: int, state: Mapping[str, Any]) -> None: ...
    def newest(self) -> Any: ...
    def load(self, checkpoint: Any) -> dict[str, Any]: ...
    def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a run finds where it is started."""

    workers: Workers
    device: Device
    precision: Precision
    metrics: Metrics
    stopping: Stopping
    checkpoints: Callable[[], Checkpoints]
    """Opens them; called by rank 0 alone, as all ranks have the same state."""


class Training:
    """A run on this process: the model, where it stands, and how it gets on."""

    def __init__(self, config: TrainingConfig, examples: Examples, around: Surroundings) -> None:
        self.config, self.examples, self.around = config, examples, around
        self.step = 0
        """Optimizer steps done."""
        torch.manual_seed(config.seed)
        self.model = build(config.model).to(around.device.torch)
        self.optimizer = make_optimizer(config, self.model)
        self.scaler = Scaler(around.precision, around.device.torch.type)
        self._checkpoints: Checkpoints | None = None
        self._saved: int | None = None

    # --- what is kept

    def state(self) -> dict[str, Any]:
        """Return all that a later process needs to go on exactly. Order and random numbers follow from the step."""
        return {
            "step": self.step,
            "config": self.config.model_dump(mode="json"),
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
        }

    def restore(self) -> None:
        """Go on where the newest good checkpoint is; rank 0 asks for it.

        Raises:
            WorkloadError: it is of another model.
        """
        checkpoints = self._opened()
        found = checkpoints.newest()
        if found is None:
            return
        state = checkpoints.load(found)
        refuse_another_model(state, self.model, f"checkpoint of step {found.step}")
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.scaler.load_state_dict(state["scaler"])
        self.step = self._saved = found.step
        for name, value in self.config.model_dump(mode="json").items():
            if name in state["config"] and state["config"][name] != value:
                self.around.metrics.say(f"note: {name} was {state['config'][name]}, and is {value} from here on")

    def save(self) -> None:
        if self.around.workers.rank == 0 and self._saved != self.step:
            self._opened().save(self.step, self.state())
            self._saved = self.step

    def close(self) -> None:
        """Wait for the last checkpoint."""
        if self._checkpoints is not None:
            self._checkpoints.close()
            self._checkpoints = None

    def _opened(self) -> Checkpoints:
        if self._checkpoints is None:
            self._checkpoints = self.around.checkpoints()
        return self._checkpoints

    # --- how it goes

    def run(self, model: nn.Module, last: int, after: Callable[[], None] = lambda: None) -> bool:
        """Take steps until *last* are done; return False if it was told to stop before.

        Args:
            model: What to call: the model, or what averages its gradients.
            after: Called after each step.
        """
        around, config = self.around, self.config
        pace, first = Pace(around.device, self.step), self.step + 1
        for epoch, indices in self._order():
            if self.step >= last:
                break
            reporting = self.step + 1 in (first, last) or (self.step + 1) % config.report_every_steps == 0
            rate = learning_rate(config, self.step, epoch, around.workers.size)
            totals = self._take(model, indices, rate, reporting)
            self.step += 1
            stop = reporting and self._report(totals, epoch, rate, pace)
            stop = stop or (around.workers.size == 1 and around.stopping())  # several ask each other as they report
            if stop or self.step % config.saving.every_steps == 0:
                self.save()
            after()
            if stop:
                return False
        self.save()
        return True

    def _order(self) -> Iterator[tuple[int, Tensor]]:
        """Yield, for each step from here on, the epoch and which examples this process takes."""
        workers, config = self.around.workers, self.config
        examples, batch_size = len(self.examples), config.global_batch
        drawn, first, indices = -1, 0, torch.empty(0, dtype=torch.long)
        while True:
            epoch, batch = order.position(self.step, examples, batch_size)
            if epoch != drawn:
                first = batch if config.elastic else 0
                indices = torch.tensor(self._drawn(epoch, first * batch_size))
                drawn = epoch
            yield epoch, indices[order.share(batch - first, batch_size, workers.rank, workers.size)]

    def _drawn(self, epoch: int, done: int) -> Sequence[int]:
        """Return the order of this process's examples in *epoch*; in an elastic run, of those after *done*."""
        workers = self.around.workers
        if self.config.elastic:
            from horovod.torch.elastic import ElasticSampler

            elastic = ElasticSampler(self.examples, seed=self.config.seed)
            elastic.load_state_dict({"epoch": epoch, "processed_num": done})
            return list(elastic)
        sampler: DistributedSampler[Any] = DistributedSampler(
            self.examples,
            workers.size,
            workers.rank,
            seed=self.config.seed,
        )
        sampler.set_epoch(epoch)
        return list(sampler)

    def _take(self, model: nn.Module, indices: Tensor, rate: float, counting: bool) -> Tensor:
        """Take one step, and return this process's loss, right answers and answers, summed; zeros if not *counting*."""
        around, config, device = self.around, self.config, self.around.device
        torch.manual_seed(order.seed_of(config.seed, self.step, around.workers.rank))
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.zero_grad()
        totals = torch.zeros(3, device=device.torch)
        parts = torch.tensor_split(indices, config.accumulate)
        for number, part in enumerate(parts, 1):
            x, y = (tensor.to(device.torch) for tensor in self.examples.take(part))
            with around.workers.accumulating(model, last=number == len(parts)):
                with around.precision.autocast(device.torch.type):
                    logits = model(x).flatten(0, -2)
                    loss = F.cross_entropy(logits, y.flatten(), reduction="sum")
                # the mean over the whole batch, whatever part of it is here: averaging divides by the processes
                answers = config.global_batch * y[0].numel() if len(y) else 1
                self.scaler.scaled(loss * (around.workers.size / answers)).backward()
                device.hand_over()
            if counting:
                right = (logits.detach().argmax(-1) == y.flatten()).sum()
                totals += torch.stack([loss.detach(), right, torch.tensor(y.numel(), device=device.torch)])
        around.workers.averaged(self.optimizer)
        with around.workers.stepping(self.optimizer):
            if config.optimizer.clip_norm:
                self.scaler.unscale(self.optimizer)
                nn.utils.clip_grad_norm_(self.model.parameters(), config.optimizer.clip_norm)
            self.scaler.step(self.optimizer)
        device.hand_over()
        return totals

    def _report(self, totals: Tensor, epoch: int, rate: float, pace: "Pace") -> bool:
        """Tell how the step went over all processes, and return whether one of them has been asked to stop."""
        around = self.around
        asked = torch.tensor([float(around.stopping())], device=totals.device)
        loss, right, answers, stop = around.workers.total(torch.cat([totals, asked])).tolist()
        seconds = pace.seconds_per_step(self.step)
        values = {
            "step": self.step,
            "epoch": epoch,
            "loss": loss / answers,
            "accuracy": right / answers,
            "learning_rate": rate,
            "step_seconds": seconds,
            "examples_per_second": self.config.global_batch / seconds,
        }
        if not math.isfinite(loss):
            fix = "Lower the learning rate, or set clip_norm; the checkpoints from before are good"
            raise Diverged(f"step {self.step}", f"got a loss of {loss}", "a loss is a number", fix)
        around.metrics.tell(time=round(time.time(), 3), **values)
        around.metrics.say(
            "step {step}/{} epoch {epoch} loss {loss:.4f} accuracy {accuracy:.3f} rate {learning_rate:.3g} "
            "{examples_per_second:.0f} examples/s".format(self.config.steps, **values)
        )
        return bool(stop)


class Diverged(WorkloadError):
    """A loss that is no number."""

    exit_status = 4


class Pace:
    """The time that steps take, between two reports: the clock is read only when the device has done its work."""

    def __init__(self, device: Device, step: int) -> None:
        self._device, self._step = device, step
        device.settle()
        self._began = time.perf_counter()

    def seconds_per_step(self, step: int) -> float:
        self._device.settle()
        now = time.perf_counter()
        seconds = (now - self._began) / max(1, step - self._step)
        self._began, self._step = now, step
        return seconds


def make_optimizer(config: TrainingConfig, model: nn.Module) -> torch.optim.Optimizer:
    """Return the optimizer, its state there from the beginning: what is broadcast and saved has always one shape.

    Horovod would make the state itself, by a step that also lets the weights decay and counts as one.
    """
    chosen = config.optimizer
    optimizer: torch.optim.Optimizer
    if chosen.kind == "adamw":
        optimizer = torch.optim.AdamW(model.parameters(), lr=0.0, weight_decay=chosen.weight_decay)
    else:
        optimizer = torch.optim.SGD(
            model.parameters(), lr=0.0, momentum=chosen.momentum, weight_decay=chosen.weight_decay
        )
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()  # with rate 0 and no gradient nothing moves
    for state in optimizer.state.values():
        for value in state.values():
            if isinstance(value, Tensor):
                value.zero_()
    optimizer.zero_grad()
    return optimizer


def refuse_another_model(state: Mapping[str, Any], model: nn.Module, where: str) -> None:
    """Raise where the weights of *state* are not those of *model* by name and shape.

    Raises:
        WorkloadError: names the first that differs.
    """
    saved = {name: tuple(tensor.shape) for name, tensor in state["model"].items()}
    own = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    differing = sorted(name for name in saved.keys() | own.keys() if saved.get(name) != own.get(name))
    if differing:
        name = differing[0]
        got = f"got {name} of {_shape(saved.get(name))}, and {len(differing) - 1} others that differ"
        fix = "Take another --out, or the model that it was made with"
        raise WorkloadError(where, got, f"this run's model has {_shape(own.get(name))}", fix)


def _shape(shape: tuple[int, ...] | None) -> str:
    return "none such" if shape is None else "x".join(map(str, shape)) or "one number"


def checkpoints_at(directory: Path, config: TrainingConfig) -> Checkpoints:
    from workloads.common.checkpoint import Checkpoints

    saving = config.saving
    return Checkpoints(directory, keep_last=saving.keep_last, keep_every=saving.keep_every)
