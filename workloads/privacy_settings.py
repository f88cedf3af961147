"""The promise of differential privacy of a run, and the budget of its data set, readable without PyTorch."""

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, ConfigDict, Field
from pydantic_core import PydanticCustomError

from workloads.config_schema import ConfigSchema, Positive

Epsilon = Annotated[float, Field(ge=0.01, le=100)]
"""Bound of the privacy loss. The accountant is exact to a hundredth of it; above 100 it promises nothing."""
Delta = Annotated[float, Field(ge=1e-12, le=1e-3)]
"""Probability with which the bound of the privacy loss may not hold."""
PLANTED_MIN, PLANTED_MAX = 16, 100_000
DataName = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,62}$")]


def _absolute(path: str) -> str:
    if not re.fullmatch(r"(/[A-Za-z0-9_.-]+)+", path) or {".", ".."} & {*path.split("/")}:
        raise PydanticCustomError("path", "an absolute path has letters, digits and . _ - /, and no part . or ..")
    return path


_DESCRIBED = ConfigDict(use_attribute_docstrings=True)
"""For the JSON Schema of fleets."""


class Budget(ConfigSchema):
    """The total privacy loss that all runs on a data set may cause together."""

    model_config = _DESCRIBED
    epsilon: Epsilon
    """Total privacy loss of all runs."""
    delta: Delta
    """Probability with which the total may not hold."""
    ledger: Annotated[str, AfterValidator(_absolute)]
    """Directory of the ledger, on the host with the rows: charges, keyed digests of the rows, and their key."""


class Privacy(ConfigSchema):
    """The promise of a run to the rows, or the persons, of its data."""

    model_config = _DESCRIBED
    epsilon: Epsilon
    """Largest privacy loss of the run; the noise follows from it before the first step."""
    delta: Delta
    """Probability with which *epsilon* may not hold: less than one in the number of rows."""
    unit: Literal["record", "person"] = "record"
    """Owner of the promise: one row, or all rows of a person together."""
    clip: Positive = 1.0
    """Maximum norm of the gradient of a record or person."""
    rows_per_person: Annotated[int, Field(ge=1, le=1_000_000)] = 8
    """Maximum rows of a person in a step, with unit person."""
    planted_records: Annotated[int, Field(ge=PLANTED_MIN, le=PLANTED_MAX)] | None = None
    """Random records, of which the run trains on each by a coin. An attack on the trained model guesses on which, and
    the receipt has the privacy loss that its guesses show: 192 can show 3. Without it there is no attack."""
    data: DataName
    """Name of the data set, whose ledger has the charges of all runs."""
    budget: Budget
    """Total of the data set."""
