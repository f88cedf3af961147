"""Rows to calibrate with, to search with and to judge by: three sets that have no row in common, fixed by a hash.

Which set a row is in follows from its content alone, or from its group where it has one: not from how many rows there
are, their order, or a random number. So the rows that judge are the same ones whatever is tried.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from workloads.errors import WorkloadError
from workloads.quantize.source import Source
from workloads.serving.batcher import Arrays
from workloads.serving.wire import DTYPES
from workloads.training import rows
from workloads.training.rows import GROUP, LABELS

if TYPE_CHECKING:
    from workloads.training.config import Data

TRAINED_ON = "trained_on"
"""Name in a file that is no input, beside labels and group."""
TRAINING = "training"
"""In the place of a file: all that the model that is quantised was trained with."""


@dataclass(frozen=True, slots=True)
class Samples:
    """Rows, and what they are where somebody knows."""

    inputs: Arrays
    labels: np.ndarray | None

    def __len__(self) -> int:
        return len(next(iter(self.inputs.values())))

    def take(self, rows: np.ndarray) -> "Samples":
        inputs = {name: array[rows] for name, array in self.inputs.items()}
        return Samples(inputs, None if self.labels is None else self.labels[rows])

    def digests(self) -> list[str]:
        """Return for each row the digest of its content."""
        return rows.digests(self.inputs)


@dataclass(frozen=True, slots=True)
class Sets:
    """The three."""

    calibration: Samples
    search: Samples
    held_out: Samples
    sha256: str = ""
    """Of all that they were made from: the same rows have the same, wherever their file is."""


def load(what: str, source: Source, calibration_rows: int) -> Sets:
    """Return the rows of *what*: a file of NumPy's (.npz), the built-in `digits`, or `training`.

    `training` is all that the model has learned from, and what was held out of it, which judges. A file has an array
    for each input of the model, by its name, a row for each example; ``labels``; where several rows belong together and
    must not be torn apart, ``group``; and where the model was trained on some of them, ``trained_on``, true or false:
    those never judge, and all others do.

    Args:
        calibration_rows: At most so many calibrate.

    Raises:
        WorkloadError: they do not fit the model, or are too few.
    """
    arrays = _arrays(what, source)
    sha256 = _sha256(arrays)
    inputs = {tensor.name: arrays.pop(tensor.name) for tensor in source.inputs if tensor.name in arrays}
    extra = {name: arrays.pop(name) for name in (LABELS, GROUP, TRAINED_ON) if name in arrays}
    _refuse(what, source, inputs, extra, arrays)
    samples = Samples(
        {tensor.name: inputs[tensor.name].astype(DTYPES[tensor.datatype], copy=False) for tensor in source.inputs},
        extra.get(LABELS),
    )
    sets = split(samples, extra.get(GROUP), extra.get(TRAINED_ON))
    few = [name for name in ("calibration", "search", "held_out") if len(getattr(sets, name)) < 8]
    if few:
        got = f"got {len(samples)} rows, fewer than 8 of them for {', '.join(few)}"
        raise WorkloadError(what, got, "each of the three sets has some", "Take more data")
    calibration = sets.calibration.take(np.arange(min(len(sets.calibration), calibration_rows)))
    return replace(sets, calibration=calibration, sha256=sha256)


def _sha256(arrays: Mapping[str, np.ndarray]) -> str:
    digest = hashlib.sha256()
    for name, array in sorted(arrays.items()):
        digest.update(f"{name} {array.dtype} {array.shape}\n".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def split(samples: Samples, group: np.ndarray | None = None, trained_on: np.ndarray | None = None) -> Sets:
    """Return the three sets of *samples*: by hash a quarter, a quarter and a half.

    Args:
        group: Of each row; rows of a group stay together.
        trained_on: Of each row, whether the model has learned from it. Where it is known, those rows calibrate and
            search, and the others judge.
    """
    digests = samples.digests()
    places = rows.split_points(digests, group)
    sets = np.digitize(places, (0.25, 0.5)) if trained_on is None else np.where(trained_on, places >= 0.5, 2)
    seen: dict[str, int] = {}
    for digest, place in zip(digests, sets.tolist(), strict=True):
        seen[digest] = min(place, seen.get(digest, place))
    # a row that stands in two sets, of two groups or trained on and not, is in the first of them alone
    kept = np.array([seen[digest] == place for digest, place in zip(digests, sets.tolist(), strict=True)], bool)
    calibration, search, held_out = (samples.take(np.flatnonzero(kept & (sets == place))) for place in range(3))
    return Sets(calibration, search, held_out)


def _arrays(what: str, source: Source) -> dict[str, np.ndarray]:
    if what == "digits":
        from workloads.training.config import Digits

        return _known([Digits()])  # as the recipe `digits` divides them
    if what != TRAINING:
        return rows.read(Path(what), "--data", f", or one of the words digits and {TRAINING}")
    if "training" not in source.lineage:
        want = "what it was trained with is known of a training's directory"
        raise WorkloadError("--data", f"got {what} for {source.name}", want, "Name that, or a file with rows")
    from workloads.training.parent_model import parse_data

    return _known(parse_data(source.lineage["training"]["data"]))


def _known(data: "Sequence[Data]") -> dict[str, np.ndarray]:
    """Return the examples of *data*, and which of them were trained on."""
    from workloads.training.data import concatenate, held_out, load

    learned, unseen = concatenate([load(each) for each in data]), concatenate([held_out(each) for each in data])
    return {
        "x": np.concatenate([learned.x.numpy(), unseen.x.numpy()]),
        LABELS: np.concatenate([learned.y.numpy(), unseen.y.numpy()]),
        TRAINED_ON: np.arange(len(learned) + len(unseen)) < len(learned),
    }


def _refuse(
    what: str, source: Source, inputs: Arrays, extra: Mapping[str, np.ndarray], unknown: Mapping[str, np.ndarray]
) -> None:
    wanted = {tensor.name: tensor for tensor in source.inputs}
    wrong = [f"{name} is not there" for name in wanted if name not in inputs]
    wrong += [f"{name} is no input" for name in unknown]
    wrong += [
        f"{name} has the shape {list(array.shape)}, not {list(wanted[name].shape)}"
        for name, array in inputs.items()
        if len(array.shape) != len(wanted[name].shape)
        or any(want not in (-1, got) for want, got in zip(wanted[name].shape, array.shape, strict=True))
    ]
    if len({len(array) for array in (*inputs.values(), *extra.values())}) > 1:
        wrong.append("its arrays have different numbers of rows")
    if any(tensor.shape[:1] != (-1,) for tensor in (*source.inputs, *source.outputs)):
        wrong.append("the model does not take any number of rows")
    if wrong:
        names = ", ".join(wanted)
        raise WorkloadError(what, f"got {'; '.join(wrong)}", f"{source.name} takes {names}", "Mend the file")
