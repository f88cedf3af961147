"""The receipt of a trained model: each of its fields is read from the checkpoint, or was fixed by a charge."""

from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from workloads.checkpoint import at_step, verify_shards
from workloads.errors import Diagnostic, UserError
from workloads.foreign import parse_object, read_file
from workloads.privacy_settings import Privacy
from workloads.training import sharded
from workloads.training.parent_model import checkpoint_digest
from workloads.training.privacy import identity
from workloads.training.privacy.attack import AttackData, Guesses
from workloads.training.privacy.attack import describe as describe_attack
from workloads.training.privacy.charges import STEPS_MAX, Charge, Digest, describe
from workloads.training.privacy.ledger import Ledger
from workloads.training.privacy.limits import resource_limits
from workloads.training.privacy.report import Receipt, epsilon_of, mechanisms_of


class Lineage(BaseModel):
    """The part of a run's lineage that its receipt has."""

    model_config = ConfigDict(strict=True)
    checkpoint: Digest
    step: Annotated[int, Field(ge=1, le=STEPS_MAX)]
    attack: Guesses | None = None


def receipt(out: Path) -> Receipt:
    """Return the receipt of the finished run in *out*.

    Raises:
        UserError: It is no private run, it has not ended, its model is missing or damaged, or its ledger is missing.
    """
    try:
        lineage = Lineage.model_validate(parse_object(read_file(out / "lineage.json")))
    except (OSError, ValueError) as error:
        reason = describe(error) if isinstance(error, ValidationError) else error
        help = "Name the directory of a run with privacy that has ended"
        raise UserError(Diagnostic(str(out), f"it has no result of a private run: {reason}", help=help)) from error
    checkpoint, step = lineage.checkpoint, lineage.step
    run, fixed = identity.read(out / identity.RUN_FILE)
    known = identity.Identity.model_validate(fixed)
    promise, masked_by = known.privacy, known.data.masked_by
    ledger = Ledger(Path(promise.budget.ledger), promise.data)
    charges = _charges_of(ledger, run, fixed, step)
    _check_model(out, step, checkpoint, {"run": run, "identity": charges[-1].identity})
    with resource_limits():
        epsilon = epsilon_of(charges, promise.delta, promise.epsilon)
    return {
        "receipt": 1,
        "run": run,
        "name": charges[-1].name,
        "step": step,
        "checkpoint": checkpoint,
        "data": promise.data,
        "unit": promise.unit,
        "clip": promise.clip,
        "rows_per_person": promise.rows_per_person if promise.unit == "person" else None,
        "promised": {"epsilon": promise.epsilon, "delta": promise.delta},
        "epsilon": epsilon,
        "mechanisms": mechanisms_of(charges),
        "accountant": f"prv of opacus {version('opacus')}",
        "code": [*dict.fromkeys(each.code for each in charges)],
        "identity": charges[-1].identity,
        "base": known.base,
        "masking": masked_by.sha256 if masked_by else None,
        "attack": _attack_of(out, lineage, promise),
    }


def _attack_of(out: Path, lineage: Lineage, promise: Privacy) -> AttackData | None:
    """Return the attack on the run in *out*; None if its promise has none.

    Raises:
        UserError: The run has not made the attack that its promise has.
    """
    if not promise.planted_records:
        return None
    if lineage.attack is None or lineage.attack.records != promise.planted_records:
        problem = f"the run has no result of an attack on {promise.planted_records} planted records"
        raise UserError(
            Diagnostic(str(out / "lineage.json"), problem, help="Start the run again: it ends with the attack")
        )
    return describe_attack(lineage.attack, promise.delta)


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
