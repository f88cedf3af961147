"""The canary of an archived model: its outputs for fixed inputs, recorded at the first restore test, compared later."""

import hashlib
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from rackwright.errors import Diagnostic
from rackwright.foreign import InvalidData, parse_json
from rackwright.tiering import archive
from rackwright.tiering.bucket import Bucket
from rackwright.tiering.manifest import ArchiveDamaged, Manifest

BYTES_MAX = 4 << 20
"""Maximum size of the object with a canary; 100 outputs of 256 values take 0.5 MiB."""
TOLERANCE = 0.01
"""Largest difference of a value, as a share of the largest recorded value of that output: other processors and
versions of a runtime round in another way, and 8-bit models do so by up to one step of 1/127."""


class Canary(BaseModel):
    """The outputs of a model for inputs that follow from its metadata alone."""

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="constants")

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


def key(name: str) -> str:
    """Return the key of the object with the canary of the archive *name*, which is beside the manifest."""
    return f"{name}/canary.json"


def find(bucket: Bucket, manifest: Manifest) -> Canary | None:
    """Return the recorded canary of the archive with *manifest*; None if none was recorded.

    A canary that the manifest does not name yet is from a test that was interrupted: the manifest names it from now on.

    Raises:
        ArchiveDamaged: the object is no canary, or another one than the manifest names, or was deleted.
    """
    try:
        content = bucket.read(key(manifest.name), BYTES_MAX)
    except InvalidData as error:
        raise _damage(bucket, manifest, f"the object is no canary: {error}") from None
    if content is None:
        if manifest.canary is not None:
            raise _damage(bucket, manifest, "the recorded outputs of the model were deleted")
        return None
    digest = hashlib.sha256(content).hexdigest()
    if manifest.canary not in (None, digest):
        raise _damage(bucket, manifest, "the recorded outputs of the model were changed")
    try:
        found = Canary.model_validate(parse_json(content, BYTES_MAX, max_depth=3, lenient=True))
    except ValueError as error:
        reason = f"{error.error_count()} values are wrong" if isinstance(error, ValidationError) else error
        raise _damage(bucket, manifest, f"the object is no canary: {reason}") from None
    if manifest.canary is None:
        archive.note_canary(bucket, manifest, digest)
    return found


def record(bucket: Bucket, manifest: Manifest, canary: Canary) -> None:
    """Write the *canary* of the archive with *manifest* into the bucket, and its digest into the manifest."""
    content = canary.model_dump_json(indent=1).encode()
    bucket.client.put_object(Bucket=bucket.name, Key=key(manifest.name), Body=content)
    archive.note_canary(bucket, manifest, hashlib.sha256(content).hexdigest())


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


def _damage(bucket: Bucket, manifest: Manifest, problem: str) -> ArchiveDamaged:
    help = "Restore an earlier version of the object"
    return ArchiveDamaged(Diagnostic(bucket.where(key(manifest.name)), problem, help=help))


def _names(canary: Canary) -> str:
    return ", ".join(sorted(canary.outputs)) or "none"
