"""The part of a run with differential privacy in this process: the same loop, with private steps."""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from workloads.errors import Diagnostic, UserError
from workloads.training import initial_weights, references
from workloads.training.config import ImageClassifier, Preferences, TrainingConfig
from workloads.training.data import Examples, concatenate
from workloads.training.divergence import are_finite, divergence
from workloads.training.evaluation import evaluating, make_batch
from workloads.training.loop import RunContext, Training, TrainingInputs
from workloads.training.models import vocabulary_size
from workloads.training.objective import Batch
from workloads.training.privacy import attack, clipping, noise, planted, units
from workloads.training.privacy.budget import RunBudget
from workloads.training.schedule import learning_rate
from workloads.training.step_timer import StepTimer


class PrivateTraining(Training):
    """A run whose weights are all that leaves the rows: no loss, no score, no number of rows of a step is published.

    Each process clips the gradients of its records, and adds them. The first process adds the noise of all to its sum,
    before the sums are added over the processes.
    """

    adds_noise = True

    def __init__(self, config: TrainingConfig, inputs: TrainingInputs, context: RunContext, out: Path) -> None:
        """
        Args:
            out: Directory of the run, which has its name in the ledger.

        Raises:
            UserError: The model, the rows or the budget do not allow the promise.
        """
        super().__init__(config, inputs, context)
        assert config.privacy
        self.promise = config.privacy
        self._units = units.Units(inputs.examples, self.promise)
        self._gradients = clipping.RowGradients(self.model)
        clipping.prove(self._gradients, self._proof_loss, 2 if self.examples.are_pairs else 1)
        self.budget = RunBudget(config, out, inputs.examples, len(self._units), context.workers)
        self._is_spent = False
        self._planted = self._plant()

    def _plant(self) -> planted.PlantedRecords | None:
        """Add the planted records that the run trains on to its examples; steps sample each as they do a row."""
        if not self.promise.planted_records:
            return None
        found = planted.draw(self.budget.origin["run"], self.config, vocabulary_size(self.model) or 0, self.examples.x)
        self._units.add(len(self.examples), len(found.in_training))
        self.examples = concatenate([self.examples, found.in_training])
        return found

    # --- state: nothing of a row beside the weights

    def state(self) -> dict[str, Any]:
        state = super().state()
        state.pop("references", None)  # log-probabilities of private answers
        return {**state, "privacy": self.budget.origin}

    def _check_origin(self, values: Mapping[str, Any], step: int) -> None:
        """
        Raises:
            UserError: Another run has written the checkpoint: its steps are not among the charges of this one.
        """
        if values.get("privacy") != self.budget.origin:
            problem = (
                "another run has written it, or one without privacy, so that its steps are not charged to this run"
            )
            expected = "a checkpoint of this run, or none: the first step starts from the initial weights"
            help = "Use another directory for a new run"
            raise UserError(Diagnostic(f"checkpoint of step {step}", problem, expected, help))

    def _measure_references(self) -> bool:
        if not self.examples.are_pairs:
            return True
        if not self.references:
            if self.step:
                self.references = self._references_of_start()
            else:
                measured = references.measure(self.model, self.examples, self.config, self.tuning, self.context)
                if measured is None:
                    return False
                self.references = measured
        self.examples = references.attach(self.examples, self.references)
        return True

    def _references_of_start(self) -> dict[str, Tensor]:
        """Return the log-probabilities by the initial weights, which a resumed run computes again."""
        with self._initial_weights():
            return references.measure(self.model, self.examples, self.config, self.tuning, self.context) or {}

    @contextmanager
    def _initial_weights(self) -> Iterator[None]:
        """Give the model its initial weights while the context is open."""
        trained = {name: weight.detach().clone() for name, weight in self.model.named_parameters()}
        initial_weights.fill(self.model, self.config.model, self.config.seed)
        yield
        with torch.no_grad():
            for name, weight in self.model.named_parameters():
                weight.copy_(trained[name])

    def _check_finite(self) -> None:
        """Raise unless the weights are finite: they are published, and the loss is not."""
        state = [value for each in self.optimizer.state.values() for value in each.values() if torch.is_tensor(value)]
        if self.context.workers.any(not are_finite([*self.model.parameters(), *state])):
            raise divergence(self.step, "the weights are not finite", self._last_good())

    def connect(self) -> nn.Module:
        """Return the model to call: processes add clipped sums, and never average the gradients of rows."""
        return self.model

    @property
    def is_done(self) -> bool:
        return self.step >= self.config.steps or self._is_spent

    # --- steps

    def run(self, model: nn.Module, last: int, after: Callable[[], None] = lambda: None) -> bool:
        if not self._measure_references():
            return False
        self.budget.announce(self.context.metrics)
        timer = StepTimer(self.context.device, self.step)
        while self.step < last and not self.is_done:
            every = self.config.saving.every_steps
            interval = self.budget.charge(self.step, min(last, (self.step // every + 1) * every) - self.step)
            self._is_spent = not interval
            end = self.step + interval
            while self.step < end:
                self._take_private_step(model, timer, last)
                stop = self.context.workers.any(self.context.stopping())
                after()
                if stop and not self.is_done:
                    self.save()
                    return False
            self.save()
        if self._is_spent:
            text = f"the budget of the run is used: it ends at step {self.step} of {self.config.steps}"
            self.context.metrics.print(text)
        self.save()
        if self._planted and self.is_done:
            self.attack = self._attack(self._planted)
        return True

    def _attack(self, found: planted.PlantedRecords) -> attack.Guesses:
        """Return how well the trained weights tell which planted records the run has trained on."""
        after = self._losses(found.examples)
        with self._initial_weights():
            before = self._losses(found.examples)
        guesses = planted.guess(before - after, found.is_trained_N)
        shown = attack.describe(guesses, self.promise.delta)
        figures = f"{guesses.right} of {guesses.guesses} guesses about {guesses.records} planted records are right"
        bound = f"an epsilon of at least {shown['epsilon']:.3g}; {shown['epsilon_if_all_right']:.3g} if all were right"
        self.context.metrics.print(f"attack: {figures}, which shows {bound}")
        return guesses

    def _losses(self, records: Examples) -> Tensor:
        """Return the loss of each of *records* by the present weights."""
        context = self.context
        with evaluating(self.model, context.workers, context.device, context.precision):
            return torch.stack(
                [
                    self.objective.forward(self.model, make_batch(records, torch.tensor([n]), context.device), False)[
                        0
                    ].cpu()
                    for n in range(len(records))
                ]
            )

    def _take_private_step(self, model: nn.Module, timer: StepTimer, last: int) -> None:
        context, config = self.context, self.config
        rate = learning_rate(config, self.step, 0, context.workers.data_size)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        sums = [torch.zeros_like(weight, dtype=torch.float32) for weight in self._gradients.weights]
        chosen = self._units.sample(self.budget.rate, context.workers.data_rank, context.workers.data_size)
        most = max(1, config.examples_at_once // context.workers.data_size)
        for part in units.parts(chosen, most):
            self._add_clipped(model, part, sums)
        for weight, total in zip(self._gradients.weights, sums, strict=True):
            exact = self._noisy(total, self.budget.noise * self.promise.clip) / config.global_batch
            weight.grad = exact.to(weight.dtype).to(weight.device)  # the only rounding after the noise
        self.optimizer.step()
        self.optimizer.zero_grad()
        context.device.flush()
        self.step += 1
        if self.step == last or self.step % config.report_every_steps == 0:
            seconds = timer.seconds_per_step(self.step)
            values = {"step": self.step, "learning_rate": rate, "step_seconds": seconds}
            context.metrics.log(time=round(time.time(), 3), **values)
            context.metrics.print(f"step {self.step}/{config.steps} rate {rate:.3g} {seconds:.3g} s/step")

    def _noisy(self, total: Tensor, deviation: float) -> Tensor:
        """Return the sum of *total* over all processes with noise, in double precision."""
        exact = total.cpu().double() if total.device.type == "mps" else total.double()  # Apple's GPUs have no fp64
        if self.context.workers.rank == 0:
            exact += noise.gaussian(total.shape, deviation).to(exact.device)
        return self.context.workers.all_reduce_sum(exact)

    def _add_clipped(self, model: nn.Module, part: list[Tensor], sums: list[Tensor]) -> None:
        """Add the clipped gradients of the records or persons of *part* to *sums*."""
        batch = make_batch(self.examples, torch.cat(part), self.context.device)
        loss, _ = self._forward(model, batch, False)
        loss.backward()
        owners = torch.repeat_interleave(torch.arange(len(part)), torch.tensor([len(each) for each in part]))
        if self.examples.are_pairs:
            owners = owners.repeat_interleave(2)  # both answers
        added = clipping.clipped_sum(self._gradients.take(), owners.to(loss.device), len(part), self.promise.clip)
        for total, each in zip(sums, added, strict=True):
            if each is not None:
                total += each

    def _proof_loss(self, records: slice) -> Tensor:
        """Return the loss of some records of random numbers."""
        generator, count = torch.Generator().manual_seed(1), clipping.PROOF_ROWS
        if isinstance(self.config.model, ImageClassifier):
            side = self.config.model.side
            x = torch.rand(count, side, side, generator=generator)
            y = torch.randint(self.config.model.classes, (count,), generator=generator)
        else:
            answers = (2,) if isinstance(self.config.data, Preferences) else ()
            size = (count, *answers, min(9, self.examples.x.shape[-1] + 1))
            tokens = torch.randint(vocabulary_size(self.model) or 1, size, generator=generator)
            x, y = tokens[..., :-1], tokens[..., 1:]
        reference = torch.zeros(count, 2) if self.examples.are_pairs else None
        parts = (None if each is None else each[records].to(self.context.device.torch) for each in (x, y, reference))
        return self.objective.forward(self.model, Batch(*parts), False)[0]
