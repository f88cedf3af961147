"""The canary of an archived model: its outputs for fixed inputs, recorded at the first restore test, compared later."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from rackwright.errors import Diagnostic
from rackwright.tiering.bucket import Bucket
from rackwright.tiering.manifest import ArchiveDamaged

TOLERANCE = 0.01
"""Largest difference of a value, as a share of the largest recorded value of that output: other processors and
versions of a runtime round in another way, and 8-bit models do so by up to one step of 1/127."""


class Canary(BaseModel):
    """The outputs of a model for inputs that follow from its metadata alone."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    runtime: str
    """The library that computed them, with its version and device."""
    outputs: Mapping[str, tuple[float, ...]]
    """The first values of each output, by its name."""


@dataclass(frozen=True)
class NoOutputs:
    """A model without outputs, and the reason."""

    reason: str
    is_loadable: bool = False
    """Whether another computer may load the model, since this one has no runtime for it."""


Infer = Callable[[Path], Canary | NoOutputs]
"""A function that returns the outputs of the model in a directory."""


def key(archive: str) -> str:
    """Return the key of the object with the canary of *archive*, which is beside the manifest."""
    return f"{archive}/canary.json"


def find(bucket: Bucket, archive: str) -> Canary | None:
    """Return the recorded canary of *archive*; None without one.

    Raises:
        ArchiveDamaged: the object is no canary.
    """
    body = bucket.body(key(archive))
    if body is None:
        return None
    try:
        return Canary.model_validate_json(body.read())
    except ValidationError as error:
        problem = f"the object is no canary: {error.error_count()} values are wrong"
        help = "Restore an earlier version of the object"
        raise ArchiveDamaged(Diagnostic(bucket.where(key(archive)), problem, help=help)) from None


def record(bucket: Bucket, archive: str, canary: Canary) -> None:
    """Write the *canary* of *archive* into the bucket."""
    bucket.client.put_object(Bucket=bucket.name, Key=key(archive), Body=canary.model_dump_json(indent=1).encode())


def difference(recorded: Canary, actual: Canary) -> str:
    """Return the first difference of two canaries beyond `TOLERANCE`; empty if there is none."""
    if recorded.outputs.keys() != actual.outputs.keys():
        return f"the model has the outputs {_names(actual)}, and the canary {_names(recorded)}"
    for name, wanted in recorded.outputs.items():
        found = actual.outputs[name]
        if len(found) != len(wanted):
            return f"the output {name} has {len(found)} values, and the canary {len(wanted)}"
        bound = TOLERANCE * max((abs(value) for value in wanted if math.isfinite(value)), default=0.0)
        for number, (old, new) in enumerate(zip(wanted, found, strict=True)):
            same = old == new or (math.isnan(old) and math.isnan(new)) or abs(old - new) <= bound
            if not same:
                return f"value {number} of the output {name} is {new:g}, and {old:g} in the canary"
    return ""


def _names(canary: Canary) -> str:
    return ", ".join(sorted(canary.outputs)) or "none"
