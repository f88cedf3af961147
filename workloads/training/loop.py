"""The training loop, the same for each device, precision and launcher."""

import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from workloads.errors import Diagnostic, UserError
from workloads.training import order, sharded
from workloads.training.batch_sampler import BatchSampler
from workloads.training.checkpointing import TrainingCheckpoints, check_weights_match
from workloads.training.config import TrainingConfig
from workloads.training.data import Examples, concatenate
from workloads.training.device import Device
from workloads.training.device_stats import DeviceStats
from workloads.training.evaluation import EvaluationScore, score
from workloads.training.fine_tuning import FineTuningState
from workloads.training.metrics import MetricsLog
from workloads.training.models import build, trainable_state
from workloads.training.optimizer import make_optimizer
from workloads.training.precision import Precision, Scaler
from workloads.training.schedule import learning_rate
from workloads.training.stopping import StopRequest
from workloads.training.workers import Workers


@dataclass(frozen=True, slots=True)
class RunContext:
    """The environment of a run: processes, device, precision, metrics, stop request and checkpoints."""

    workers: Workers
    device: Device
    precision: Precision
    metrics: MetricsLog
    stopping: StopRequest
    open_checkpoints: Callable[[], TrainingCheckpoints]
    """Function that opens the checkpoints; rank 0 alone calls it if all ranks have the same state."""


@dataclass(frozen=True, slots=True)
class TrainingInputs:
    """The data and the weights that a run starts from."""

    examples: Examples
    old: Examples | None = None
    """Examples that fill a part of each batch, which prevents forgetting."""
    weights: Mapping[str, Tensor] | None = None
    """Weights of the parent."""
    tuning: FineTuningState | None = None
    learned: tuple[Mapping[str, Any], ...] = ()
    """Configurations of all data that the model learns from, its own first, then those of its parents."""


class Training:
    """The part of a run in this process: the model, its step, and its progress."""

    def __init__(self, config: TrainingConfig, inputs: TrainingInputs, context: RunContext) -> None:
        self.config, self.context = config, context
        self.tuning, self._learned = inputs.tuning, list(inputs.learned)
        self._own, self._old = inputs.examples, inputs.old
        self.examples = concatenate([inputs.examples, inputs.old]) if inputs.old else inputs.examples
        self.step = 0
        """Optimizer steps taken."""
        torch.manual_seed(config.seed)
        model = build(config.model)
        if inputs.weights is not None:
            sharded.copy_into(trainable_state(model), inputs.weights)
        self.model = context.workers.place(model, context.device)
        self.optimizer = make_optimizer(config, self.model)
        self.scaler = Scaler(context.precision, context.device.torch.type)
        self._checkpoints: TrainingCheckpoints | None = None
        self._newest: Any = None
        self._device_stats = DeviceStats.for_device(context.device)
        self._peak = (
            self._device_stats.peak_flops() if self._device_stats and context.precision.name != "fp32" else None
        )
        self._flops = 0
        """Floating-point operations of one step in this process, counted in its first step."""
        self._saved: int | None = None

    # --- state and checkpoints

    def state(self) -> dict[str, Any]:
        """Return the state that a later process needs to resume exactly.

        The order of examples and the random numbers follow from the step.
        """
        weights = trainable_state(self.model)
        return {
            "step": self.step,
            "config": self.config.model_dump(mode="json"),
            "data": self._learned,
            "model": sharded.local_state(weights),
            "distributed": sharded.distributed_names(weights),
            "optimizer": sharded.local_state(self.optimizer.state_dict()),
            "scaler": self.scaler.state_dict(),
            "tuning": self.tuning.state_dict() if self.tuning else None,
        }

    def restore(self, step: int) -> None:
        """Restore the state after *step* from its checkpoint.

        Raises:
            UserError: The checkpoint is damaged or belongs to another model.
        """
        checkpoints = self._open_checkpoints()
        checkpoint = self._newest if self._newest and self._newest.step == step else checkpoints.at_step(step)
        state = checkpoints.load(checkpoint)
        own_weights = sharded.local_state(trainable_state(self.model))
        help = "Use another --out, or the model of this checkpoint"
        check_weights_match(state["model"], own_weights, f"checkpoint of step {step}", help)
        sharded.copy_into(trainable_state(self.model), state["model"])
        if self.context.workers.sharded:
            sharded.copy_into(self.optimizer.state_dict()["state"], state["optimizer"]["state"])
        else:
            self.optimizer.load_state_dict(state["optimizer"])
        self.scaler.load_state_dict(state["scaler"])
        if self.tuning and state.get("tuning"):
            self.tuning.load_state_dict(state["tuning"])
        self.step = self._saved = step
        for name, value in self.config.model_dump(mode="json").items():
            if name in state["config"] and state["config"][name] != value:
                self.context.metrics.print(f"note: {name} was {state['config'][name]}, and is {value} from now on")

    def newest(self) -> int | None:
        """Return the step of the newest intact checkpoint. One process calls it, as it reads the whole checkpoint."""
        self._newest = self._open_checkpoints().newest()
        return None if self._newest is None else int(self._newest.step)

    def save(self) -> None:
        if (self.context.workers.rank == 0 or self.context.workers.sharded) and self._saved != self.step:
            self._open_checkpoints().save(self.step, self.state())
            self._saved = self.step

    def close(self) -> None:
        """Wait until the last checkpoint is written."""
        if self._checkpoints is not None:
            self._checkpoints.close()
            self._checkpoints = None

    def _open_checkpoints(self) -> TrainingCheckpoints:
        if self._checkpoints is None:
            self._checkpoints = self.context.open_checkpoints()
        return self._checkpoints

    # --- steps

    def run(self, model: nn.Module, last: int, after: Callable[[], None] = lambda: None) -> bool:
        """Take steps until step *last*; return False if a stop request ended the run before.

        Args:
            model: The model, or a wrapper that averages its gradients.
            after: Function to call after each step.
        """
        context, config = self.context, self.config
        if self.tuning:
            self.tuning.score_parent(self.score)
        timer, first = StepTimer(context.device, self.step), self.step + 1
        for epoch, indices in self._batches():
            if self.step >= last or self.is_done:
                break
            reporting = self.step + 1 in (first, last) or (self.step + 1) % config.report_every_steps == 0
            rate = learning_rate(config, self.step, epoch, context.workers.size)
            with self._count_flops(self.step + 1 == first):
                totals = self._take_step(model, indices, rate, reporting)
            self.step += 1
            stop = reporting and self._report(totals, epoch, rate, timer)
            stop = stop or (context.workers.size == 1 and context.stopping())  # several processes agree in _report
            self._evaluate_if_due()
            stop = stop and not self.is_done  # a complete run ends below
            if stop or (self.step % config.saving.every_steps == 0 and not self.is_done):
                self.save()
            after()
            if stop:
                return False
        if self.tuning and self.is_done and not self.tuning.scores:
            self.tuning.restore_best(self.score, trainable_state(self.model))
            self._saved = None
        self.save()
        return True

    @property
    def is_done(self) -> bool:
        """Whether the run has taken all steps, or fine-tuning has stopped early."""
        return self.step >= self.config.steps or bool(self.tuning and self.tuning.out_of_patience)

    def score(self, examples: Examples) -> EvaluationScore:
        """Return the score of the model on *examples*. All processes call it."""
        context = self.context
        return score(self.model, examples, self.config.global_batch, context.workers, context.device, context.precision)

    def _evaluate_if_due(self) -> None:
        """Evaluate a fine-tuning if this step is due for it."""
        if self.tuning and (self.step % self.tuning.config.evaluate_every_steps == 0 or self.step == self.config.steps):
            scores = self.tuning.evaluate(self.step, self.score, trainable_state(self.model))
            for held_out, each in zip(self.tuning.held_out_sets, scores, strict=True):
                self.context.metrics.log(event="evaluated", step=self.step, data=held_out.name, **each._asdict())
                figures = f"accuracy {each.accuracy:.4f} loss {each.loss:.4f}"
                self.context.metrics.print(f"step {self.step}: {figures} on the held-out part of {held_out.name}")

    def _batches(self) -> Iterator[tuple[int, Tensor]]:
        """Yield, for each following step, the epoch and the examples that this process takes."""
        config, workers = self.config, self.context.workers
        old_examples_per_step = config.old_examples_per_step if self._old else 0
        own = BatchSampler(config, self._own, config.global_batch - old_examples_per_step, workers)
        old = BatchSampler(config, self._old, old_examples_per_step, workers) if self._old else None
        while True:
            epoch, indices = own.batch_at(self.step)
            if old:
                indices = torch.cat([indices, len(self._own) + old.batch_at(self.step)[1]])
            yield epoch, indices

    def _take_step(self, model: nn.Module, indices: Tensor, rate: float, counting: bool) -> Tensor:
        """Take one step and return the sums of this process: loss, right answers, answers; zeros if not *counting*."""
        context, config, device = self.context, self.config, self.context.device
        device.seed(order.seed_of(config.seed, self.step, context.workers.rank))
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.zero_grad()
        totals = torch.zeros(3, device=device.torch)
        parts = torch.tensor_split(indices, config.accumulate)
        for number, part in enumerate(parts, 1):
            x, y = (tensor.to(device.torch) for tensor in self.examples.take(part))
            with context.workers.accumulation_context(model, last=number == len(parts)):
                with context.precision.autocast(device.torch.type):
                    logits = model(x).flatten(0, -2)
                    loss = F.cross_entropy(logits, y.flatten(), reduction="sum")
                # the mean over the whole batch: averaging over the processes divides by their number
                answers = config.global_batch * y[0].numel() if len(y) else 1
                self.scaler.scale(loss * (context.workers.size / answers)).backward()
                device.flush()
            if counting:
                right = (logits.detach().argmax(-1) == y.flatten()).sum()
                totals += torch.stack([loss.detach(), right, torch.tensor(y.numel(), device=device.torch)])
        context.workers.wait_for_gradients(self.optimizer)
        with context.workers.step_context(self.optimizer):
            if config.optimizer.clip_norm:
                self.scaler.unscale(self.optimizer)
                nn.utils.clip_grad_norm_(self.model.parameters(), config.optimizer.clip_norm)
            self.scaler.step(self.optimizer)
        device.flush()
        return totals

    @contextmanager
    def _count_flops(self, first: bool) -> Iterator[None]:
        """Count the operations of the first step if the device's peak rate is known, to compute the utilisation."""
        if not (first and self._peak):
            yield
            return
        from torch.utils.flop_counter import FlopCounterMode

        with FlopCounterMode(display=False) as counter:
            yield
        self._flops = counter.get_total_flops()

    def _report(self, totals: Tensor, epoch: int, rate: float, timer: "StepTimer") -> bool:
        """Report the step over all processes, and return whether one of them has a stop request."""
        context = self.context
        stop_flag = torch.tensor([float(context.stopping())], device=totals.device)
        loss, right, answers, stop = context.workers.all_reduce_sum(torch.cat([totals, stop_flag])).tolist()
        seconds = timer.seconds_per_step(self.step)
        values: dict[str, float] = {
            "step": self.step,
            "epoch": epoch,
            "loss": loss / answers,
            "accuracy": right / answers,
            "learning_rate": rate,
            "step_seconds": seconds,
            "examples_per_second": self.config.global_batch / seconds,
        }
        measured = self._device_stats.read() if self._device_stats else {}
        if self._peak:
            measured["mfu"] = self._flops / seconds / self._peak
        if not math.isfinite(loss):
            help, note = "Lower the learning rate, or set clip_norm", "earlier checkpoints are intact"
            raise LossDiverged(Diagnostic(f"step {self.step}", f"the loss is {loss}", "a finite number", help, note))
        context.metrics.log(time=round(time.time(), 3), **values, **measured)
        context.metrics.print(
            "step {step}/{} epoch {epoch} loss {loss:.4f} accuracy {accuracy:.3f} rate {learning_rate:.3g} "
            "{examples_per_second:.0f} examples/s".format(self.config.steps, **values)
        )
        return bool(stop)


class LossDiverged(UserError):
    """A loss that is not a finite number."""

    exit_status = 4


class StepTimer:
    """The mean time of steps between two reports, measured when the device has finished its work."""

    def __init__(self, device: Device, step: int) -> None:
        self._device, self._step = device, step
        device.synchronize()
        self._began = time.perf_counter()

    def seconds_per_step(self, step: int) -> float:
        self._device.synchronize()
        now = time.perf_counter()
        seconds = (now - self._began) / max(1, step - self._step)
        self._began, self._step = now, step
        return seconds
