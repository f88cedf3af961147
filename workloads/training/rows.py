"""Rows of a file of NumPy's, and where a hash of its content puts each, whatever other rows there are."""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from zipfile import BadZipFile

import numpy as np

from workloads.errors import WorkloadError

LABELS, GROUP = "labels", "group"
"""Names in a file that are no inputs."""


def read(path: Path, where: str, words: str = "") -> dict[str, np.ndarray]:
    """Return the arrays of the file *path* by their names.

    Args:
        where: What named the file, for the error.
        words: What could have stood there in the place of a file.

    Raises:
        WorkloadError: it is no file that numpy.savez writes, or one that would run code.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except (OSError, EOFError, ValueError, BadZipFile, AttributeError) as error:  # the last: a single array, no files
        want = f"data is a file that numpy.savez writes{words}"
        raise WorkloadError(where, f"got {path}: {error}", want, "Mend it") from None


def digests(inputs: Mapping[str, np.ndarray]) -> list[str]:
    """Return for each row of *inputs* the digest of its content."""
    names = sorted(inputs)
    return [
        hashlib.sha256(b"".join(np.ascontiguousarray(inputs[name][row]).tobytes() for name in names)).hexdigest()
        for row in range(len(inputs[names[0]]))
    ]


def places(digests: Sequence[str], group: np.ndarray | None = None) -> np.ndarray:
    """Return for each row a number in [0, 1) that follows from its digest, or from its *group* where it has one."""
    keys = digests if group is None else [hashlib.sha256(str(value).encode()).hexdigest() for value in group.tolist()]
    return np.array([int(key[:8], 16) / 2**32 for key in keys])
