"""The state of a ledger as data, and the form of the receipt of a trained model; both without PyTorch."""

import math
from collections.abc import Sequence

from typing_extensions import TypedDict

from workloads.errors import Diagnostic, UserError
from workloads.training.privacy import accountant
from workloads.training.privacy.attack import AttackData
from workloads.training.privacy.charges import Charge
from workloads.training.privacy.ledger import Ledger
from workloads.training.privacy.limits import resource_limits

DIGITS = 6
"""Digits of an epsilon after the point."""


class MechanismData(TypedDict):
    """Steps with one noise."""

    rate: float
    """Probability with which a step takes a record or person."""
    noise: float
    """Deviation of the noise as a multiple of the clip."""
    steps: int
    """Number of steps, those that a crash has repeated included."""


class RunCharges(TypedDict):
    """All charges of a run."""

    run: str
    """Random name of the run."""
    name: str
    """Name of the run in its configuration."""
    mechanisms: list[MechanismData]
    """Steps by their noise."""
    epsilon: float
    """Privacy loss of this run alone, at the delta of the total."""


class LedgerData(TypedDict):
    """The ledger of a data set."""

    data: str
    """Name of the data set."""
    unit: str
    """Owner of the promise: record or person."""
    rows: int
    """Number of different rows."""
    epsilon: float
    """Total of all runs."""
    delta: float
    """Probability with which the total may not hold."""
    used: float
    """Privacy loss of all runs together, by the accountant."""
    runs: list[RunCharges]
    """Charges of each run."""


class Receipt(TypedDict):
    """The promise of a trained model to the owners of its data, and the mechanisms behind it."""

    receipt: int
    """Version of the form."""
    run: str
    """Random name of the run in the ledger."""
    name: str
    """Name of the run in its configuration."""
    step: int
    """Steps that the model has taken."""
    checkpoint: str
    """SHA-256 digest of the manifest of the final checkpoint, whose files the receipt's program has read."""
    data: str
    """Name of the data set."""
    unit: str
    """Owner of the promise: record or person."""
    clip: float
    """Maximum norm of the gradient of a record or person."""
    rows_per_person: int | None
    """Maximum rows of a person in a step; null for records."""
    promised: dict[str, float]
    """Epsilon and delta of the declaration."""
    epsilon: float
    """Privacy loss of all steps that were charged, at the promised delta."""
    mechanisms: list[MechanismData]
    """Steps by their noise."""
    accountant: str
    """Program that composed the mechanisms."""
    code: list[str]
    """SHA-256 digests of the programs that trained it, as its charges have them; several if they changed in between."""
    identity: str
    """SHA-256 digest of rows, model, seed and promise, which the first charge has fixed."""
    base: dict[str, str] | None
    """SHA-256 digests of the files of the model that it started from; null for random weights."""
    masking: str | None
    """SHA-256 digest of the masking policy of the data; null without one."""
    attack: AttackData | None
    """Lower bound of the privacy loss that an attack on the model has shown; null without planted records."""


def ledger_data(ledger: Ledger) -> LedgerData:
    """Return the state of *ledger*.

    Raises:
        UserError: It is missing or damaged, or the accountant finds no bound in time.
    """
    total, charges = ledger.total(), ledger.charges()
    runs: dict[str, list[Charge]] = {}
    for each in charges:
        runs.setdefault(each.run, []).append(each)
    with resource_limits():
        return {
            "data": ledger.name,
            "unit": total.unit,
            "rows": ledger.rows(),
            "epsilon": total.epsilon,
            "delta": total.delta,
            "used": epsilon_of(charges, total.delta, total.epsilon),
            "runs": [
                {
                    "run": run,
                    "name": own[-1].name,
                    "mechanisms": mechanisms_of(own),
                    "epsilon": epsilon_of(own, total.delta, total.epsilon),
                }
                for run, own in runs.items()
            ],
        }


def epsilon_of(charges: Sequence[Charge], delta: float, scale: float) -> float:
    """Return the privacy loss of all *charges* together, at *delta*.

    Raises:
        UserError: The accountant finds no bound.
    """
    found = accountant.epsilon([each.mechanism for each in charges], delta, scale)
    if not math.isfinite(found):
        problem = "the privacy loss of the charges has no bound"
        raise UserError(Diagnostic("privacy", problem, help="Look at the charges of the ledger"))
    return round(found, DIGITS)


def mechanisms_of(charges: Sequence[Charge]) -> list[MechanismData]:
    """Return the steps of *charges* by their noise."""
    steps: dict[tuple[float, float], int] = {}
    for each in charges:
        steps[each.rate, each.noise] = steps.get((each.rate, each.noise), 0) + each.steps
    return [{"rate": rate, "noise": noise, "steps": number} for (rate, noise), number in steps.items()]
