"""The state of a ledger, and the receipt of a trained model, as data."""

from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from typing_extensions import TypedDict

from workloads.checkpoint import at_step, verify_shards
from workloads.errors import Diagnostic, UserError
from workloads.foreign import parse_object, read_file
from workloads.training import sharded
from workloads.training.parent_model import checkpoint_digest
from workloads.training.privacy import accountant, identity
from workloads.training.privacy.ledger import Charge, Ledger

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
    audit: None
    """Empirical lower bound; null, since no attack was part of the run."""


def ledger_data(ledger: Ledger) -> LedgerData:
    """Return the state of *ledger*.

    Raises:
        UserError: It is missing or damaged.
    """
    total, charges = ledger.total(), ledger.charges()
    runs: dict[str, list[Charge]] = {}
    for each in charges:
        runs.setdefault(each.run, []).append(each)
    return {
        "data": ledger.name,
        "unit": total.unit,
        "rows": ledger.rows(),
        "epsilon": total.epsilon,
        "delta": total.delta,
        "used": _epsilon(charges, total.delta, total.epsilon),
        "runs": [
            {
                "run": run,
                "name": own[-1].name,
                "mechanisms": _mechanisms(own),
                "epsilon": _epsilon(own, total.delta, total.epsilon),
            }
            for run, own in runs.items()
        ],
    }


def receipt(out: Path) -> Receipt:
    """Return the receipt of the finished run in *out*.

    Raises:
        UserError: It is no private run, it has not ended, its model is missing or damaged, or its ledger is missing.
    """
    try:
        lineage = parse_object(read_file(out / "lineage.json"))
        checkpoint, step = lineage["checkpoint"], lineage["step"]
    except (OSError, ValueError, KeyError) as error:
        help = "Name the directory of a run with privacy that has ended"
        raise UserError(Diagnostic(str(out), f"it has no result of a private run: {error}", help=help)) from error
    run, fixed = identity.read(out / identity.RUN_FILE)
    promise = fixed["privacy"]
    ledger = Ledger(Path(promise["budget"]["ledger"]), promise["data"])
    charges = _charges_of(ledger, run, fixed, step)
    _check_model(out, step, checkpoint, {"run": run, "identity": charges[-1].identity})
    masked_by = fixed["data"].get("masked_by")
    return {
        "receipt": 1,
        "run": run,
        "name": charges[-1].name,
        "step": step,
        "checkpoint": checkpoint,
        "data": promise["data"],
        "unit": promise["unit"],
        "clip": promise["clip"],
        "rows_per_person": promise["rows_per_person"] if promise["unit"] == "person" else None,
        "promised": {"epsilon": promise["epsilon"], "delta": promise["delta"]},
        "epsilon": _epsilon(charges, promise["delta"], promise["epsilon"]),
        "mechanisms": _mechanisms(charges),
        "accountant": f"prv of opacus {version('opacus')}",
        "code": [*dict.fromkeys(each.code for each in charges)],
        "identity": charges[-1].identity,
        "base": fixed["base"],
        "masking": masked_by["sha256"] if masked_by else None,
        "audit": None,
    }


def _charges_of(ledger: Ledger, run: str, fixed: dict[str, Any], step: int) -> list[Charge]:
    """Return the charges of *run*.

    Raises:
        UserError: A step up to *step* is not charged, or a charge belongs to another identity than *fixed*.
    """
    charges = [each for each in ledger.charges() if each.run == run]
    covered = 0
    for each in sorted(charges, key=lambda charge: charge.first):
        covered = max(covered, each.first + each.steps) if each.first <= covered else covered
    if not charges or covered < step:
        problem = f"the ledger has charges of the run up to step {covered}, and the model has taken {step}"
        raise _refusal(ledger, problem)
    if any(each.identity != identity.digest(fixed) for each in charges):
        raise _refusal(ledger, f"{identity.RUN_FILE} has another identity than the run had when it was charged")
    return charges


def _check_model(out: Path, step: int, checkpoint: str, origin: dict[str, str]) -> None:
    """Read the whole checkpoint of *step*.

    Raises:
        UserError: It is missing or damaged, has another digest than *checkpoint*, or belongs to another run.
    """
    found = at_step(out / "checkpoints", step)
    verify_shards(found)
    known = sharded.SavedState(found).values.get("privacy")
    if checkpoint_digest(found) != checkpoint or known != origin:
        problem = "it is another one than the run has ended with"
        raise UserError(Diagnostic(str(found.path), problem, help="Restore the checkpoint, or train the model again"))


def _refusal(ledger: Ledger, problem: str) -> UserError:
    where = f"ledger {ledger.directory}, data set {ledger.name}"
    help = "Train the model again, from its first step, with privacy"
    return UserError(Diagnostic(where, problem, "charges for each step from the initial weights on", help))


def _epsilon(charges: Sequence[Charge], delta: float, scale: float) -> float:
    return round(accountant.epsilon([each.mechanism for each in charges], delta, scale), DIGITS)


def _mechanisms(charges: Sequence[Charge]) -> list[MechanismData]:
    steps: dict[tuple[float, float], int] = {}
    for each in charges:
        steps[each.rate, each.noise] = steps.get((each.rate, each.noise), 0) + each.steps
    return [{"rate": rate, "noise": noise, "steps": number} for (rate, noise), number in steps.items()]
