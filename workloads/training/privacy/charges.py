"""The lines of a ledger: its total and its charges, with bounds, since the account of a run writes them."""

from collections.abc import Iterable
from typing import Annotated, Literal

from pydantic import ConfigDict, Field, NonNegativeInt, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from workloads.errors import Diagnostic, UserError
from workloads.privacy_settings import Delta, Epsilon
from workloads.training.privacy.accountant import LARGEST, Mechanism

MECHANISMS_MAX = 100
"""Most different mechanisms of a data set: the accountant takes up to half a second for each."""
STEPS_MAX = 1_000_000_000
Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Text = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,199}$")]
"""A name, which terminals show as it is."""
_STRICT = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)


@dataclass(frozen=True, slots=True, config=_STRICT)
class Total:
    """The budget of a data set."""

    epsilon: Epsilon
    delta: Delta
    unit: Literal["record", "person"]


@dataclass(frozen=True, slots=True, config=_STRICT)
class Charge:
    """Steps of a run that may have seen the rows."""

    run: Text
    """Random name of the run, which its directory has."""
    name: Text
    """Name of the run in its configuration."""
    identity: Digest
    """SHA-256 digest of the identity of the run: its rows, promise, ledger and initial weights."""
    code: Digest
    """SHA-256 digest of the programs that take the steps."""
    first: Annotated[NonNegativeInt, Field(le=STEPS_MAX)]
    """Steps that the run had taken before the interval."""
    steps: Annotated[int, Field(ge=1, le=STEPS_MAX)]
    rate: Annotated[float, Field(gt=0, lt=1)]
    noise: Annotated[float, Field(ge=0.05, le=2 * LARGEST)]
    """Deviation as a multiple of the clip; less than the smallest one keeps no epsilon that a run may promise."""
    time: Annotated[float, Field(ge=0, le=1e11)]
    """Seconds since the epoch."""

    @property
    def mechanism(self) -> Mechanism:
        return Mechanism(self.rate, self.noise, self.steps)


TOTAL, CHARGES = TypeAdapter(Total), TypeAdapter(list[Charge])


def check_mechanisms(charges: Iterable[Charge], where: str) -> None:
    """
    Raises:
        UserError: *charges* have more different mechanisms than the accountant composes in a bounded time.
    """
    number = len({(each.rate, each.noise) for each in charges})
    if number > MECHANISMS_MAX:
        problem = f"it has {number} different pairs of rate and noise"
        help = "Give all runs the same batch, epsilon and steps, or begin another ledger with other rows"
        raise UserError(Diagnostic(where, problem, f"at most {MECHANISMS_MAX}", help))


def describe(error: ValidationError) -> str:
    """Return the first problem of *error*, without the value."""
    first = error.errors(include_url=False, include_input=False)[0]
    return f"{'.'.join(map(str, first['loc'])) or 'the whole'}: {first['msg']}"[:200]
