"""The budget of a run: its noise, and the charge of each interval to the ledger of its data set."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from workloads.errors import Diagnostic, UserError
from workloads.tracking.provenance import code_digest
from workloads.training.config import TrainingConfig
from workloads.training.data import Examples
from workloads.training.metrics import MetricsLog
from workloads.training.privacy import accountant, identity, units
from workloads.training.privacy.accountant import Mechanism
from workloads.training.privacy.charges import Charge, Total
from workloads.training.privacy.ledger import Ledger, new_charge
from workloads.training.workers import Workers

T = TypeVar("T")


class RunBudget:
    """The noise of a run, and what it may still do. The first process alone reads and writes the ledger."""

    def __init__(self, config: TrainingConfig, out: Path, examples: Examples, owners: int, workers: Workers) -> None:
        """
        Args:
            owners: Number of records or persons.

        Raises:
            UserError: The run exceeds the total of its data set, or its settings promise nothing.
        """
        assert config.privacy
        self._config, self._promise, self._workers = config, config.privacy, workers
        self._check_same_rows(units.fingerprint(examples, owners))
        self._check_owners(owners)
        self.rate = config.global_batch / owners
        self._ledger = Ledger(Path(self._promise.budget.ledger), self._promise.data)
        self._code = code_digest()
        self._run, self._identity, self.noise = self._on_first(lambda: self._open(out, examples))
        self.origin = {"run": self._run, "identity": self._identity}
        """The run and the digest of its identity, which each of its checkpoints has."""

    def _check_same_rows(self, fingerprint: str) -> None:
        """Raise unless all processes have the same rows: the first one alone shows its rows to the ledger."""
        different = sum(each != fingerprint for each in self._workers.all_gather(fingerprint))
        if any(self._workers.all_gather(different)):
            problem = "processes have different rows, and the ledger would know those of the first one alone"
            help = "Copy the same file, and the same model with its tokenizer, to all hosts"
            raise UserError(Diagnostic("data", problem, "the same rows in all processes", help))

    def _check_owners(self, owners: int) -> None:
        unit = self._promise.unit
        if self._config.global_batch >= owners:
            problem = f"a step takes {self._config.global_batch} of {owners} {unit}s on average"
            raise UserError(Diagnostic("global_batch", problem, "fewer than all of them", "Write a smaller batch"))
        if self._promise.delta >= 1 / owners:
            problem = f"got {self._promise.delta:g} for {owners} {unit}s, which lets a run publish one of them"
            expected = f"less than {1 / owners:.2g}"
            raise UserError(Diagnostic("privacy.delta", problem, expected, "Write a smaller delta"))

    def _open(self, out: Path, examples: Examples) -> tuple[str, str, float]:
        """Return the name of the run in the ledger, the digest of its identity, and its noise."""
        promise, own_identity = self._promise, identity.of(self._config)
        run, fixed = identity.open_run(out, own_identity), identity.digest(own_identity)
        total = Total(promise.budget.epsilon, promise.budget.delta, promise.unit)
        self._ledger.begin(total, lambda key: units.digests(examples, key, promise.unit))
        charges = self._ledger.charges()
        own = [each for each in charges if each.run == run]
        if own:
            return run, fixed, own[-1].noise
        solved = accountant.noise_multiplier(promise.epsilon, promise.delta, self.rate, self._config.steps)
        self._check_total([*charges, self._charge_of(run, fixed, 0, Mechanism(self.rate, solved, self._config.steps))])
        return run, fixed, solved

    def charge(self, first: int, steps: int) -> int:
        """Return the number of steps after *first*, *steps* at most, that are now charged; 0 if the budget is used.

        Raises:
            UserError: Another run has used the total of the data set.
        """
        return self._on_first(lambda: self._charge(first, steps))

    def _charge(self, first: int, steps: int) -> int:
        charge = self._ledger.charge(lambda charges: self._next_charge(charges, first, steps))
        return charge.steps if charge else 0

    def _next_charge(self, charges: Sequence[Charge], first: int, steps: int) -> Charge | None:
        """Return the charge of up to *steps* steps beside *charges*; None if the run has used its budget."""
        own = [each.mechanism for each in charges if each.run == self._run]
        allowed = _largest(steps, lambda more: self._fits([*own, Mechanism(self.rate, self.noise, more)]))
        if not allowed:
            return None
        charge = self._charge_of(self._run, self._identity, first, Mechanism(self.rate, self.noise, allowed))
        self._check_total([*charges, charge])
        return charge

    def _fits(self, mechanisms: Sequence[Mechanism]) -> bool:
        promise = self._promise
        return accountant.epsilon(mechanisms, promise.delta, promise.epsilon) <= promise.epsilon

    def _check_total(self, charges: Sequence[Charge]) -> None:
        """
        Raises:
            UserError: *charges* exceed the total.
        """
        budget = self._promise.budget
        used = accountant.epsilon([each.mechanism for each in charges], budget.delta, budget.epsilon)
        if used <= budget.epsilon:
            return
        before = accountant.epsilon([each.mechanism for each in charges[:-1]], budget.delta, budget.epsilon)
        problem = f"{self._promise.data} has used epsilon {before:.3g}, and with this run it would be {used:.3g}"
        expected = f"at most {budget.epsilon:g} at delta {budget.delta:g} for all runs together"
        help = "Write a smaller epsilon, or use other rows"
        raise UserError(Diagnostic("privacy.budget", problem, expected, help))

    def _charge_of(self, run: str, fixed: str, first: int, mechanism: Mechanism) -> Charge:
        return new_charge(run, self._config.name, fixed, self._code, first, mechanism)

    def _on_first(self, action: Callable[[], T]) -> T:
        """Return the result of *action* in the first process, in all of them; all raise its error."""
        result, failure = None, None
        if self._workers.rank == 0:
            try:
                result = action()
            except UserError as error:
                failure = error.diagnostics
        result, failure = self._workers.broadcast((result, failure))
        if failure:
            raise UserError(*failure)
        return result  # type: ignore[return-value]

    def announce(self, metrics: MetricsLog) -> None:
        """Log the promise, which is no secret."""
        promise = self._promise
        metrics.log(
            event="privacy", epsilon=promise.epsilon, delta=promise.delta, unit=promise.unit, clip=promise.clip,
            data=promise.data, rate=self.rate, noise=self.noise,
        )  # fmt: skip
        text = f"epsilon {promise.epsilon:g}, delta {promise.delta:g} for each {promise.unit} of {promise.data}"
        metrics.print(f"privacy: {text}; noise {self.noise:.3g} times the clip, {self.rate:.2%} of them in each step")


def _largest(most: int, fits: Callable[[int], bool]) -> int:
    """Return the largest number up to *most* that fits; 0 if none does."""
    if fits(most):
        return most
    low, high = 0, most
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low
