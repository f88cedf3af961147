"""Rows of a NumPy file, and their split by a hash of each row's content, independent of the other rows."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from zipfile import BadZipFile

import numpy as np

from workloads.errors import Diagnostic, UserError

LABELS, GROUP = "labels", "group"
"""Names of arrays that are not inputs."""


def read(path: Path, where: str, words: str = "") -> dict[str, np.ndarray]:
    """Return the arrays of the file *path* by name.

    Args:
        where: Option or field that names the file, for the error.
        words: Other accepted values, for the error.

    Raises:
        UserError: The file was not written by numpy.savez, or would run code.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except (OSError, EOFError, ValueError, BadZipFile, AttributeError) as error:  # the last: a file of one array
        problem, expected = f"{path} cannot be read: {error}", f"a file that numpy.savez wrote{words}"
        raise UserError(Diagnostic(where, problem, expected, "Correct the path or the file")) from None


def digests(inputs: Mapping[str, np.ndarray]) -> list[str]:
    """Return the digest of each row's content."""
    names = sorted(inputs)
    return [
        hashlib.sha256(b"".join(np.ascontiguousarray(inputs[name][row]).tobytes() for name in names)).hexdigest()
        for row in range(len(inputs[names[0]]))
    ]


def source_digest(content: object) -> bytes:
    """Return the SHA-256 digest of a record whose *content* is that of JSON."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).digest()


def split_points(digests: Sequence[str], group: np.ndarray | None = None) -> np.ndarray:
    """Return a number in [0, 1) for each row, derived from its digest or, if there is one, from its *group*."""
    keys = digests if group is None else [hashlib.sha256(str(value).encode()).hexdigest() for value in group.tolist()]
    return np.array([int(key[:8], 16) / 2**32 for key in keys])


def is_held_out(content: object, share: float) -> bool:
    """Return whether the row whose prompt is *content*, as JSON, is in the *share* of rows that are not trained on."""
    return bool(split_points([source_digest(content).hex()])[0] >= 1 - share)
