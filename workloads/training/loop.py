"""The loop: a step after the other until there are enough, the same for every device, precision and launcher."""

import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from workloads.errors import WorkloadError
from workloads.training import order, sharded
from workloads.training.batch_sampler import BatchSampler
from workloads.training.checkpointing import Checkpoints, refuse_another_model
from workloads.training.config import TrainingConfig
from workloads.training.data import Examples, together
from workloads.training.device import Device
from workloads.training.device_stats import DeviceStats
from workloads.training.evaluation import Score, score
from workloads.training.fine_tuning import Tuning
from workloads.training.metrics import Metrics
from workloads.training.models import build, trained
from workloads.training.optimizer import make_optimizer
from workloads.training.precision import Precision, Scaler
from workloads.training.schedule import learning_rate
from workloads.training.stopping import Stopping
from workloads.training.workers import Workers


@dataclass(frozen=True, slots=True)
class RunContext:
    """What a run finds where it is started."""

    workers: Workers
    device: Device
    precision: Precision
    metrics: Metrics
    stopping: Stopping
    checkpoints: Callable[[], Checkpoints]
    """Opens them; called by rank 0 alone where all ranks have the same state."""


@dataclass(frozen=True, slots=True)
class TrainingInputs:
    """What a run begins with."""

    examples: Examples
    old: Examples | None = None
    """What a part of every batch is taken of, against forgetting."""
    weights: Mapping[str, Tensor] | None = None
    """Of its parent."""
    tuning: Tuning | None = None
    learned: tuple[Mapping[str, Any], ...] = ()
    """All data that the model will have learned from, as configurations say it: its own first."""


class Training:
    """A run on this process: the model, where it stands, and how it gets on."""

    def __init__(self, config: TrainingConfig, beginning: TrainingInputs, around: RunContext) -> None:
        self.config, self.around = config, around
        self.tuning, self._learned = beginning.tuning, list(beginning.learned)
        self._own, self._old = beginning.examples, beginning.old
        self.examples = together([beginning.examples, beginning.old]) if beginning.old else beginning.examples
        self.step = 0
        """Optimizer steps done."""
        torch.manual_seed(config.seed)
        model = build(config.model)
        if beginning.weights is not None:
            sharded.put(trained(model), beginning.weights)
        self.model = around.workers.place(model, around.device)
        self.optimizer = make_optimizer(config, self.model)
        self.scaler = Scaler(around.precision, around.device.torch.type)
        self._checkpoints: Checkpoints | None = None
        self._newest: Any = None
        self._gauges = DeviceStats.of(around.device)
        self._peak = self._gauges.peak_flops() if self._gauges and around.precision.name != "fp32" else None
        self._flops = 0
        """Of a step on this process, as counted in its first."""
        self._saved: int | None = None

    # --- what is kept

    def state(self) -> dict[str, Any]:
        """Return all that a later process needs to go on exactly. Order and random numbers follow from the step."""
        weights = trained(self.model)
        return {
            "step": self.step,
            "config": self.config.model_dump(mode="json"),
            "data": self._learned,
            "model": sharded.local(weights),
            "distributed": sharded.distributed(weights),
            "optimizer": sharded.local(self.optimizer.state_dict()),
            "scaler": self.scaler.state_dict(),
            "tuning": self.tuning.state_dict() if self.tuning else None,
        }

    def restore(self, step: int) -> None:
        """Go on after *step*, for which there is a checkpoint.

        Raises:
            WorkloadError: it is damaged, or of another model.
        """
        checkpoints = self._opened()
        found = self._newest if self._newest and self._newest.step == step else checkpoints.at(step)
        state = checkpoints.load(found)
        fix = "Take another --out, or the model that it was made with"
        refuse_another_model(state["model"], sharded.local(trained(self.model)), f"checkpoint of step {step}", fix)
        sharded.put(trained(self.model), state["model"])
        if self.around.workers.sharded:
            sharded.put(self.optimizer.state_dict()["state"], state["optimizer"]["state"])
        else:
            self.optimizer.load_state_dict(state["optimizer"])
        self.scaler.load_state_dict(state["scaler"])
        if self.tuning and state.get("tuning"):
            self.tuning.load_state_dict(state["tuning"])
        self.step = self._saved = step
        for name, value in self.config.model_dump(mode="json").items():
            if name in state["config"] and state["config"][name] != value:
                self.around.metrics.say(f"note: {name} was {state['config'][name]}, and is {value} from here on")

    def newest(self) -> int | None:
        """Return the step of the newest good checkpoint. One process asks, as it reads all of it."""
        self._newest = self._opened().newest()
        return None if self._newest is None else int(self._newest.step)

    def save(self) -> None:
        if (self.around.workers.rank == 0 or self.around.workers.sharded) and self._saved != self.step:
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
        if self.tuning:
            self.tuning.begin(self.score)
        pace, first = StepTimer(around.device, self.step), self.step + 1
        for epoch, indices in self._order():
            if self.step >= last or self.done:
                break
            reporting = self.step + 1 in (first, last) or (self.step + 1) % config.report_every_steps == 0
            rate = learning_rate(config, self.step, epoch, around.workers.size)
            with self._counting(self.step + 1 == first):
                totals = self._take(model, indices, rate, reporting)
            self.step += 1
            stop = reporting and self._report(totals, epoch, rate, pace)
            stop = stop or (around.workers.size == 1 and around.stopping())  # several ask each other as they report
            self._look()
            stop = stop and not self.done  # what is done ends below
            if stop or (self.step % config.saving.every_steps == 0 and not self.done):
                self.save()
            after()
            if stop:
                return False
        if self.tuning and self.done and not self.tuning.scores:
            self.tuning.conclude(self.score, trained(self.model))
            self._saved = None
        self.save()
        return True

    @property
    def done(self) -> bool:
        """Whether it has taken all its steps, or as many as helped."""
        return self.step >= self.config.steps or bool(self.tuning and self.tuning.done)

    def score(self, examples: Examples) -> Score:
        """Return how the model does on *examples*. Everybody calls it."""
        around = self.around
        return score(self.model, examples, self.config.global_batch, around.workers, around.device, around.precision)

    def _look(self) -> None:
        """Evaluate a fine-tuning where it is due."""
        if self.tuning and (self.step % self.tuning.config.evaluate_every_steps == 0 or self.step == self.config.steps):
            scores = self.tuning.look(self.step, self.score, trained(self.model))
            for held, each in zip(self.tuning.held, scores, strict=True):
                self.around.metrics.tell(event="evaluated", step=self.step, data=held.name, **each._asdict())
                told = f"accuracy {each.accuracy:.4f} loss {each.loss:.4f} on what is held out of {held.name}"
                self.around.metrics.say(f"step {self.step}: {told}")

    def _order(self) -> Iterator[tuple[int, Tensor]]:
        """Yield, for each step from here on, the epoch and which examples this process takes."""
        config, workers = self.config, self.around.workers
        replayed = config.replayed if self._old else 0
        own = BatchSampler(config, self._own, config.global_batch - replayed, workers)
        old = BatchSampler(config, self._old, replayed, workers) if self._old else None
        while True:
            epoch, indices = own.at(self.step)
            if old:
                indices = torch.cat([indices, len(self._own) + old.at(self.step)[1]])
            yield epoch, indices

    def _take(self, model: nn.Module, indices: Tensor, rate: float, counting: bool) -> Tensor:
        """Take one step, and return this process's loss, right answers and answers, summed; zeros if not *counting*."""
        around, config, device = self.around, self.config, self.around.device
        device.seed(order.seed_of(config.seed, self.step, around.workers.rank))
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

    @contextmanager
    def _counting(self, first: bool) -> Iterator[None]:
        """Count the operations of the first step, where they are to be compared with what the device could do."""
        if not (first and self._peak):
            yield
            return
        from torch.utils.flop_counter import FlopCounterMode

        with FlopCounterMode(display=False) as counter:
            yield
        self._flops = counter.get_total_flops()

    def _report(self, totals: Tensor, epoch: int, rate: float, pace: "StepTimer") -> bool:
        """Tell how the step went over all processes, and return whether one of them has been asked to stop."""
        around = self.around
        asked = torch.tensor([float(around.stopping())], device=totals.device)
        loss, right, answers, stop = around.workers.all_reduce_sum(torch.cat([totals, asked])).tolist()
        seconds = pace.seconds_per_step(self.step)
        values: dict[str, float] = {
            "step": self.step,
            "epoch": epoch,
            "loss": loss / answers,
            "accuracy": right / answers,
            "learning_rate": rate,
            "step_seconds": seconds,
            "examples_per_second": self.config.global_batch / seconds,
        }
        measured = self._gauges.read() if self._gauges else {}
        if self._peak:
            measured["mfu"] = self._flops / seconds / self._peak
        if not math.isfinite(loss):
            fix = "Lower the learning rate, or set clip_norm; the checkpoints from before are good"
            raise Diverged(f"step {self.step}", f"got a loss of {loss}", "a loss is a number", fix)
        around.metrics.tell(time=round(time.time(), 3), **values, **measured)
        around.metrics.say(
            "step {step}/{} epoch {epoch} loss {loss:.4f} accuracy {accuracy:.3f} rate {learning_rate:.3g} "
            "{examples_per_second:.0f} examples/s".format(self.config.steps, **values)
        )
        return bool(stop)


class Diverged(WorkloadError):
    """A loss that is no number."""

    exit_status = 4


class StepTimer:
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
