"""Divide rows into three disjoint sets by a hash: to calibrate, to search, and to judge.

The set of a row follows from its content alone, or from its group if it has one. It does not depend on the number of
rows, their order, or a random number. So the same rows judge every attempt.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from workloads.errors import Diagnostic, UserError
from workloads.quantize.source import SourceModel
from workloads.serving.batcher import Arrays
from workloads.serving.wire import DTYPES
from workloads.training import rows
from workloads.training.rows import GROUP, LABELS

if TYPE_CHECKING:
    from workloads.training.config import Data

TRAINED_ON = "trained_on"
"""Name of the array that marks trained rows; like labels and group, it is no input."""
TRAINING = "training"
"""Value of --data that means all data that the model was trained with."""


@dataclass(frozen=True, slots=True)
class Samples:
    """Rows, and their labels if there are any."""

    inputs: Arrays
    labels: np.ndarray | None

    def __len__(self) -> int:
        return len(next(iter(self.inputs.values())))

    def take(self, rows: np.ndarray) -> "Samples":
        inputs = {name: array[rows] for name, array in self.inputs.items()}
        return Samples(inputs, None if self.labels is None else self.labels[rows])

    def digests(self) -> list[str]:
        """Return the digest of each row's content."""
        return rows.digests(self.inputs)


@dataclass(frozen=True, slots=True)
class Sets:
    """The three sets."""

    calibration: Samples
    search: Samples
    held_out: Samples
    sha256: str = ""
    """Digest of all input arrays: equal rows have an equal digest, wherever their file is."""


def load(data: str, source: SourceModel, calibration_rows: int) -> Sets:
    """Return the rows of *data*: a file of `numpy.savez`, the built-in `digits`, or `training`.

    `training` is all data that the model has learned from, and the rows held out of them, which judge. A file has an
    array for each input of the model, by its name, with a row for each example; ``labels``; optionally ``group``, for
    rows that have to stay in one set; and optionally ``trained_on``, true for rows that the model was trained on:
    those never judge, and all others do.

    Args:
        calibration_rows: The most rows that calibrate.

    Raises:
        UserError: the rows do not fit the model, or are too few.
    """
    arrays = _arrays(data, source)
    sha256 = _sha256(arrays)
    inputs = {tensor.name: arrays.pop(tensor.name) for tensor in source.inputs if tensor.name in arrays}
    extra = {name: arrays.pop(name) for name in (LABELS, GROUP, TRAINED_ON) if name in arrays}
    _refuse(data, source, inputs, extra, arrays)
    samples = Samples(
        {tensor.name: inputs[tensor.name].astype(DTYPES[tensor.datatype], copy=False) for tensor in source.inputs},
        extra.get(LABELS),
    )
    sets = split(samples, extra.get(GROUP), extra.get(TRAINED_ON))
    too_small = [name for name in ("calibration", "search", "held_out") if len(getattr(sets, name)) < 8]
    if too_small:
        problem = f"of its {len(samples)} rows, fewer than 8 are for {', '.join(too_small)}"
        raise UserError(Diagnostic(data, problem, "at least 8 rows for each of the three sets", "Use more data"))
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
        group: The group of each row; rows of a group stay in one set.
        trained_on: Whether the model was trained on each row. If given, those rows calibrate and search, and the others
            judge.
    """
    digests = samples.digests()
    places = rows.split_points(digests, group)
    sets = np.digitize(places, (0.25, 0.5)) if trained_on is None else np.where(trained_on, places >= 0.5, 2)
    first_set: dict[str, int] = {}
    for digest, place in zip(digests, sets.tolist(), strict=True):
        first_set[digest] = min(place, first_set.get(digest, place))
    # a row in two sets, through two groups or as trained on and not, stays in the first one alone
    first_only = np.array(
        [first_set[digest] == place for digest, place in zip(digests, sets.tolist(), strict=True)], bool
    )
    calibration, search, held_out = (samples.take(np.flatnonzero(first_only & (sets == place))) for place in range(3))
    return Sets(calibration, search, held_out)


def _arrays(data: str, source: SourceModel) -> dict[str, np.ndarray]:
    if data == "digits":
        from workloads.training.config import Digits

        return _examples([Digits()])  # as the recipe `digits` divides them
    if data != TRAINING:
        return rows.read(Path(data), "--data", f", or one of the words digits and {TRAINING}")
    if "training" not in source.lineage:
        problem = f"the training data of {source.name} is unknown"
        note = "only the directory of a training lists its data"
        help = "Name the directory of a training as MODEL, or a file as --data"
        raise UserError(Diagnostic("--data", problem, help=help, note=note))
    from workloads.training.parent_model import parse_data

    return _examples(parse_data(source.lineage["training"]["data"]))


def _examples(data: "Sequence[Data]") -> dict[str, np.ndarray]:
    """Return the examples of *data*, and which of them are trained on."""
    from workloads.training.data import concatenate, held_out, load

    trained, held_out_examples = (
        concatenate([load(each) for each in data]),
        concatenate([held_out(each) for each in data]),
    )
    return {
        "x": np.concatenate([trained.x.numpy(), held_out_examples.x.numpy()]),
        LABELS: np.concatenate([trained.y.numpy(), held_out_examples.y.numpy()]),
        TRAINED_ON: np.arange(len(trained) + len(held_out_examples)) < len(trained),
    }


def _refuse(
    data: str, source: SourceModel, inputs: Arrays, extra: Mapping[str, np.ndarray], unknown: Mapping[str, np.ndarray]
) -> None:
    expected = {tensor.name: tensor for tensor in source.inputs}
    wrong = [f"{name} is missing" for name in expected if name not in inputs]
    wrong += [f"{name} is not an input" for name in unknown]
    wrong += [
        f"{name} has the shape {list(array.shape)}, not {list(expected[name].shape)}"
        for name, array in inputs.items()
        if len(array.shape) != len(expected[name].shape)
        or any(size not in (-1, given) for size, given in zip(expected[name].shape, array.shape, strict=True))
    ]
    if len({len(array) for array in (*inputs.values(), *extra.values())}) > 1:
        wrong.append("its arrays have different numbers of rows")
    if any(tensor.shape[:1] != (-1,) for tensor in (*source.inputs, *source.outputs)):
        wrong.append("the model has a fixed number of rows")
    if wrong:
        names = ", ".join(expected)
        problem = f"the data does not fit {source.name}: {'; '.join(wrong)}"
        raise UserError(Diagnostic(data, problem, f"arrays for {names}", "Correct the file"))
