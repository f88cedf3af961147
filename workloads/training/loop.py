"""The training loop, the same for each device, precision and launcher."""

import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from workloads.checkpoint import CheckpointDamaged, not_finite, verify_shards
from workloads.checkpoint.persist import print_message
from workloads.errors import Diagnostic, UserError
from workloads.training import acceleration, chunked_loss, initial_weights, objective, order, references, sharded
from workloads.training.balancing import ExpertBalancer
from workloads.training.batch_sampler import BatchSampler
from workloads.training.checkpointing import TrainingCheckpoints, check_optimizer_matches, check_weights_match
from workloads.training.config import TrainingConfig
from workloads.training.data import Examples, concatenate, count_answers
from workloads.training.device import Device
from workloads.training.device_stats import DeviceStats
from workloads.training.divergence import are_finite, divergence
from workloads.training.earlier_data import EarlierData, all_configs, find_earlier
from workloads.training.evaluation import EvaluationScore, make_batch, score
from workloads.training.fine_tuning import FineTuningState
from workloads.training.metrics import MetricsLog
from workloads.training.models import build_shapes, recompute_activations, trainable_state
from workloads.training.objective import Batch
from workloads.training.optimizer import clip_gradients, make_optimizer
from workloads.training.precision import Precision, Scaler
from workloads.training.privacy.attack import Guesses
from workloads.training.rollouts import Rollouts
from workloads.training.schedule import learning_rate
from workloads.training.step_timer import StepTimer
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
    sha256: str | None = None
    """Digest of the examples of its own data; None for private rows, of which it would confirm a guess."""


class Training:
    """The part of a run in this process: the model, its step, and its progress."""

    adds_noise = False
    """Whether steps keep the promise of `privacy`."""

    def __init__(self, config: TrainingConfig, inputs: TrainingInputs, context: RunContext) -> None:
        """
        Raises:
            UserError: The configuration has a promise that these steps do not keep.
        """
        if config.privacy and not self.adds_noise:
            problem, expected = "this training adds no noise", "python -m workloads.training, whose steps keep it"
            raise UserError(Diagnostic("privacy", problem, expected, "Remove privacy"))
        self.config, self.context = config, context
        self.tuning, self._learned, self._sha256 = inputs.tuning, inputs.learned, inputs.sha256
        self.earlier_data: tuple[EarlierData, ...] = ()
        """Other data, which earlier starts of the run have learned from."""
        self._own, self._old = inputs.examples, inputs.old
        self.examples = concatenate([inputs.examples, inputs.old]) if inputs.old else inputs.examples
        self._has_gaps = bool((self.examples.y < 0).any())
        """Whether examples have positions that are not learned."""
        self.step = 0
        """Optimizer steps taken."""
        workers = context.workers
        model = build_shapes(config.model)
        self.acceleration = acceleration.choose(
            config, model, context.device.kind, context.precision, workers.data_size
        )
        if config.recompute_activations:
            recompute_activations(model)
        if self.acceleration.compiled:
            acceleration.compile_blocks(model)
        self.model = workers.place(model, context.device, context.precision)
        initial_weights.fill(self.model, config.model, config.seed)
        if inputs.weights is not None:
            sharded.copy_parts(trainable_state(self.model), inputs.weights)
        self.optimizer = make_optimizer(config, self.model, self.acceleration.fused)
        self.scaler = Scaler(context.precision, context.device.torch.type, config.compression == "fp16")
        self._checkpoints: TrainingCheckpoints | None = None
        self._proved: int | None = None
        """Step of the checkpoint whose files have all been compared with its manifest."""
        self._device_stats = DeviceStats.for_device(context.device)
        self._peak = (
            self._device_stats.peak_flops() if self._device_stats and context.precision.name != "fp32" else None
        )
        self._flops = 0
        """Floating-point operations of one step in this process, counted in its first step."""
        self.objective = objective.choose(config, self.acceleration.chunked_loss)
        self.references: dict[str, Tensor] = {}
        """Log-probabilities of the answers of pairs by the initial weights, by the digest of the pairs."""
        self.rollouts = Rollouts(config, workers, context.device, context.precision)
        self.balancer = ExpertBalancer(self.model, config.expert_bias_speed, config.router_loss_weight)
        self._loss: Tensor | None = None
        """The sum of the losses of the last step in this process."""
        self.last_saved: int | None = None
        """Step of the last checkpoint, the same in all processes."""
        self.restored: int | None = None
        """Step of the checkpoint that the run has resumed from."""
        self.save_failure = ""
        """Reason why the last save of this process failed, after `close`; empty if it succeeded."""
        self.last_committed: int | None = None
        """Last step that this run has committed, after `close`."""
        self.attack: Guesses | None = None
        """Result of the attack on a finished private run with planted records."""

    # --- state and checkpoints

    def state(self) -> dict[str, Any]:
        """Return the state that a later process needs to resume exactly.

        The order of examples and the random numbers follow from the step.
        """
        weights = trainable_state(self.model)
        held = sharded.distributed_parts(weights)
        return {
            "step": self.step,
            "config": self.config.model_dump(mode="json"),
            "data": all_configs(self._learned, self.earlier_data),
            "data_sha256": self._sha256,
            "earlier_data": [each._asdict() for each in self.earlier_data],
            "model": sharded.local_state(weights),
            "distributed": [*held],
            **({"held": held} if held else {}),
            "optimizer": sharded.local_state(self.optimizer.state_dict()),
            "scaler": self.scaler.state_dict(),
            "tuning": self.tuning.state_dict() if self.tuning else None,
            **({"references": self.references} if self.references else {}),
            **({"rewards_differ": self.rollouts.have_differed} if self.examples.tasks else {}),
        }

    def restore(self, step: int) -> None:
        """Restore the state after *step* from its checkpoint.

        Raises:
            UserError: The checkpoint is damaged or belongs to another model.
        """
        checkpoint = self._open_checkpoints().at_step(step)
        if self._proved != step:
            verify_shards(checkpoint)
        saved, own = sharded.SavedState(checkpoint), trainable_state(self.model)
        self._check_origin(saved.values, step)
        config, where = saved.values["config"], f"checkpoint of step {step}"
        check_weights_match(saved.weights(), own, where, "Use another --out, or the model of this checkpoint")
        check_optimizer_matches(config, self.config.optimizer, where)
        if self.tuning:
            self.tuning.check_same_examples(saved.values["tuning"], where)
        saved.copy_weights(own)
        trained = [name for name, weight in self.model.named_parameters() if weight.requires_grad]
        saved.copy_moments(self.optimizer.state_dict()["state"], trained)
        self.scaler.load_state_dict(saved.read("scaler"))
        self.references = dict(saved.read("references") or {})
        tuning = saved.read("tuning", sharded.distributed_parts(own)) if self.tuning else None
        if self.tuning and tuning:
            self.tuning.load_state_dict(tuning)
        self.rollouts.have_differed = bool(saved.values.get("rewards_differ", True))
        self.step = self.last_saved = self.restored = step
        self._add_earlier_data(saved.values, step)
        for name, value in self.config.model_dump(mode="json").items():
            if name in config and config[name] != value:
                self.context.metrics.print(f"note: {name} was {config[name]}, and is {value} from now on")

    def _check_origin(self, values: Mapping[str, Any], step: int) -> None:
        """Raise if a run like this one cannot continue the checkpoint of *step*, which has *values*; any run can."""

    def _add_earlier_data(self, saved: Mapping[str, Any], step: int) -> None:
        """Note the data of the checkpoint of *step*, whose state is *saved*, if this start has other data."""
        self.earlier_data = find_earlier(saved, step, self.config.data.model_dump(mode="json"), self._sha256)
        for each in self.earlier_data:
            if each.until_step == step:
                self.context.metrics.print(f"note: the data is not that of the earlier steps: {each}")

    def newest(self) -> int | None:
        """Return the step of the newest intact checkpoint with finite numbers. One process calls it: it reads all."""
        found = self._open_checkpoints().newest(not_finite)
        self._proved = None if found is None else int(found.step)
        return self._proved

    def steps(self) -> list[int]:
        """Return the steps of all checkpoints, the newest first."""
        return [*reversed(self._open_checkpoints().steps())]

    def prove(self, step: int) -> tuple[str, str]:
        """Return how this process's share of the checkpoint of *step* is damaged, and which number is not finite.

        Each process that saves reads its own shard; of a checkpoint by more processes, every n-th shard. Both texts are
        empty for a good one.
        """
        workers = self.context.workers
        try:
            checkpoint = self._open_checkpoints().at_step(step)
            shards = range(workers.shard, checkpoint.manifest.world, workers.shards)
            if not shards:
                return "", ""
            verify_shards(checkpoint, shards)
        except CheckpointDamaged as damage:
            return str(damage), ""
        return "", not_finite(checkpoint, shards)

    def accept(self, step: int) -> None:
        """Note that all shards of *step* have been proved, so that `restore` does not read them again."""
        self._proved = step

    def reject(self, step: int, damage: str, reason: str) -> None:
        """Report why the checkpoint of *step* is skipped; one with numbers that are not finite gets another name."""
        where = f"checkpoint of step {step}"
        if not damage:
            damage = f"{where}: {reason}; it is now {self._open_checkpoints().set_aside(step)}"
        print_message(f"SKIPPED: {damage}")

    def save(self) -> None:
        """Save a checkpoint of this step. All processes call it.

        Raises:
            DivergenceError: A number is not finite, so that earlier checkpoints stay in place.
        """
        if self.last_saved == self.step:
            return
        self._check_finite()
        if self.examples.tasks:
            self.rollouts.share()
        if self.context.workers.rank < self.context.workers.shards:
            self._open_checkpoints().save(self.step, self.state())
        self.last_saved = self.step

    def _check_finite(self) -> None:
        """Raise unless the loss and gradients of this step, and the state after it, are finite in all processes."""
        gradients = [weight.grad for weight in self.model.parameters() if weight.grad is not None]
        numbers = {
            "loss": [] if self._loss is None else [self._loss],
            "gradients": [] if self.scaler.is_enabled else gradients,  # it skips a step with overflowing gradients
            "weights": [*trainable_state(self.model).values()],
            "optimizer's state": [
                value
                for state in self.optimizer.state.values()
                for value in state.values()
                if isinstance(value, Tensor)
            ],
        }
        names = [name for name, tensors in numbers.items() if self.context.workers.any(not are_finite(tensors))]
        if names:
            raise divergence(self.step, f"the {' and the '.join(names)} are not finite", self._last_good())

    def _last_good(self) -> int | None:
        """Return the step of the last checkpoint that is on the drive."""
        if self._checkpoints is None:
            return self.last_saved
        self._checkpoints.wait()
        return self._checkpoints.committed or self.restored

    def state_bytes(self) -> int:
        """Return the bytes of the tensors that this process saves; 0 if others save for it."""
        if self.context.workers.rank >= self.context.workers.shards:
            return 0
        moments = (value for state in self.optimizer.state.values() for value in state.values())
        saved = (*trainable_state(self.model).values(), *moments)
        return sum(sharded.local_part(each).nbytes for each in saved if isinstance(each, Tensor))

    def close(self) -> None:
        """Wait until the last checkpoint is written; `save_failure` says why it is not."""
        if self._checkpoints is not None:
            self._checkpoints.close()
            self.save_failure, self.last_committed = self._checkpoints.failure, self._checkpoints.committed
            self._checkpoints = None

    def _open_checkpoints(self) -> TrainingCheckpoints:
        if self._checkpoints is None:
            self._checkpoints = self.context.open_checkpoints()
        return self._checkpoints

    # --- steps

    def connect(self) -> nn.Module:
        """Return the model to call, so that the gradients of all processes are averaged."""
        model, self.optimizer = self.context.workers.average_gradients(self.model, self.optimizer)
        return model

    def run(self, model: nn.Module, last: int, after: Callable[[], None] = lambda: None) -> bool:
        """Take steps until step *last*; return False if a stop request ended the run before.

        Args:
            model: The model, or a wrapper that averages its gradients.
            after: Function to call after each step.
        """
        context, config = self.context, self.config
        if not self._measure_references():
            return False
        if self.tuning:
            self.tuning.score_parent(self.score)
        timer, first = StepTimer(context.device, self.step), self.step + 1
        for epoch, indices in self._batches():
            if self.step >= last or self.is_done:
                break
            reporting = self.step + 1 in (first, last) or (self.step + 1) % config.report_every_steps == 0
            rate = learning_rate(config, self.step, epoch, context.workers.data_size)
            with self._count_flops(self.step + 1 == first):
                totals = self._take_step(model, indices, rate, reporting)
            self.step += 1
            if reporting:
                self._report(totals, epoch, rate, timer)
            stop = context.workers.any(context.stopping())
            self._evaluate_if_due()
            stop = stop and not self.is_done  # a complete run ends below
            if stop or (self.step % config.saving.every_steps == 0 and not self.is_done):
                self.save()
            after()
            if stop:
                return False
        if self.tuning and self.is_done and not self.tuning.scores:
            self.tuning.restore_best(self.score, trainable_state(self.model))
            kept = f"the weights of step {self.tuning.best_step}, which did best on all that is held out"
            self.context.metrics.print(f"the model has {kept}")
            self.last_saved = None
        self.save()
        return True

    @property
    def is_done(self) -> bool:
        """Whether the run has taken all steps, or fine-tuning has stopped early."""
        return self.step >= self.config.steps or bool(self.tuning and self.tuning.out_of_patience)

    def score(self, examples: Examples, workers: Workers | None = None) -> EvaluationScore:
        """Return the score of the model on *examples*. All processes of *workers* call it; None are all of the run."""
        context = self.context
        if examples.tasks:
            at_once = acceleration.rows(self.config, context.workers.data_size)
            return self.rollouts.score(self.model, examples, at_once, workers or context.workers)
        own = objective.to_evaluate(examples.are_pairs, self.config, self.acceleration.chunked_loss)
        known = references.attach(examples, self.references) if examples.are_pairs else examples
        group = workers or context.workers
        return score(self.model, known, self.config.examples_at_once, group, context.device, context.precision, own)

    def _measure_references(self) -> bool:
        """Measure all pairs by the initial weights, unless a checkpoint has the result; return False if stopped."""
        if not self.step:
            measured = references.measure(self.model, self.examples, self.config, self.tuning, self.context)
            if measured is None:
                return False
            self.references = measured
        if self.examples.are_pairs:
            self.examples = references.attach(self.examples, self.references)
        return True

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
        device.seed(order.seed_of(config.seed, self.step, context.workers.data_rank))
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.zero_grad()
        totals = torch.zeros(self.objective.sums + 1, device=device.torch)
        self._loss = torch.zeros((), device=device.torch)
        examples, indices = self._learned_examples(indices)
        answers = self._answers(examples, indices)
        parts = torch.tensor_split(indices, config.accumulate)
        for number, part in enumerate(parts, 1):
            batch = make_batch(examples, part, device)
            with context.workers.accumulation_context(model, last=number == len(parts)):
                with self.balancer.recording(batch.y if self._has_gaps or examples.outcomes is not None else None):
                    loss, counted = self._forward(model, batch, counting)
                # the mean over the whole batch: averaging over data parallelism divides by its size
                mean = loss * (context.workers.data_size / answers)
                if (added := self.balancer.loss()) is not None:
                    mean = mean + added / len(parts)
                self.scaler.scale(mean).backward()
                device.flush()
            self._loss += loss.detach()
            if counted is not None:
                totals += torch.cat([counted, count_answers(batch.y).to(device.torch).reshape(1)])
        context.workers.wait_for_gradients(self.optimizer)
        with context.workers.step_context(self.optimizer):
            if config.optimizer.clip_norm:
                self.scaler.unscale(self.optimizer)
                clip_gradients(self.model, config.optimizer.clip_norm)
            self.scaler.step(self.optimizer)
        self.balancer.adjust(context.workers)
        device.flush()
        return totals

    def _learned_examples(self, indices: Tensor) -> tuple[Examples, Tensor]:
        """Return the examples of a step and their numbers: those of *indices*, or the model's own answers to them."""
        if not self.examples.tasks:
            return self.examples, indices
        at_once = acceleration.rows(self.config, self.context.workers.data_size)
        written = self.rollouts.examples(self.model, self.examples, indices, at_once)
        return written, torch.arange(len(written))

    def _answers(self, examples: Examples, indices: Tensor) -> float:
        """Return the number of answers that all processes learn from in the step of *indices*, at least 1."""
        y = examples.y
        if examples.are_pairs or not (self._has_gaps or examples.outcomes is not None):
            return float(self.config.global_batch * int(count_answers(y[:1])))
        own = (y[indices] >= 0).sum().to(self.context.device.torch, torch.float32)
        return max(float(self.context.workers.all_reduce_sum(own)), 1.0)

    def _forward(self, model: nn.Module, batch: Batch, counting: bool) -> tuple[Tensor, Tensor | None]:
        """Return the sum of the losses; if *counting*, also the sums of the objective."""
        context = self.context
        with context.precision.forward_context(context.device.torch.type, context.workers.sharded):
            return self.objective.forward(model, batch, counting, self.step)

    @contextmanager
    def _count_flops(self, first: bool) -> Iterator[None]:
        """Count the operations of the first step if the device's peak rate is known, to compute the utilisation."""
        if not (first and self._peak):
            yield
            return
        from torch.utils.flop_counter import FlopCounterMode

        own = {}
        if self.acceleration.chunked_loss:
            own[torch.ops.torch_nn._linear_cross_entropy_batch_chunked.default] = chunked_loss.flops
        with FlopCounterMode(display=False, custom_mapping=own) as counter:
            yield
        self._flops = counter.get_total_flops()

    def _report(self, totals: Tensor, epoch: int, rate: float, timer: StepTimer) -> None:
        """Report the step over all processes.

        Raises:
            DivergenceError: The loss is not finite.
        """
        context = self.context
        *sums, answers = context.workers.all_reduce_sum(totals).tolist()
        seconds = timer.seconds_per_step(self.step)
        values: dict[str, float] = {
            "step": self.step,
            "epoch": epoch,
            **self.objective.metrics(sums, answers),
            "learning_rate": rate,
            "step_seconds": seconds,
            "examples_per_second": self.config.global_batch / seconds,
        }
        measured = self._device_stats.read() if self._device_stats else {}
        if self._peak:
            measured["mfu"] = self._flops / seconds / self._peak
        if not math.isfinite(sums[0]):
            raise divergence(self.step, f"the loss is {sums[0]}", self._last_good())
        context.metrics.log(time=round(time.time(), 3), **values, **measured, **self.balancer.metrics())
        context.metrics.print(
            "step {step}/{} epoch {epoch} loss {loss:.4f} accuracy {accuracy:.3f} rate {learning_rate:.3g} "
            "{examples_per_second:.0f} examples/s".format(self.config.steps, **values)
        )
