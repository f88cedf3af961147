"""Weights and updates of a model as arrays by name: their digest, norm and difference."""

import math
from collections.abc import Mapping
from hashlib import sha256

import numpy as np

Weights = Mapping[str, np.ndarray]
"""Arrays of float32 by name."""


def digest(weights: Weights) -> str:
    """Return the SHA-256 of all names, shapes and values, in the order of the names."""
    result = sha256()
    for name in sorted(weights):
        array = np.ascontiguousarray(weights[name], dtype="<f4")
        result.update(f"{name}\0{array.shape}\n".encode())
        result.update(memoryview(array).cast("B") if array.size else b"")
    return result.hexdigest()


def norm(weights: Weights) -> float:
    """Return the Euclidean norm of all values together; infinite or NaN if one of them is."""
    # in float64: squares of large float32 values overflow
    return math.sqrt(sum(float(np.square(array, dtype=np.float64).sum()) for array in weights.values()))


def are_finite(weights: Weights) -> bool:
    """Return whether all values are finite numbers."""
    return all(bool(np.isfinite(array).all()) for array in weights.values())


def difference(new: Weights, old: Weights) -> dict[str, np.ndarray]:
    """Return *new* minus *old*."""
    return {name: new[name] - old[name] for name in old}


def add(old: Weights, update: Weights) -> dict[str, np.ndarray]:
    """Return *old* plus *update*."""
    return {name: old[name] + update[name] for name in old}


def clip(update: Weights, limit: float) -> dict[str, np.ndarray]:
    """Return *update*, scaled down to the norm *limit* if it is longer."""
    length = norm(update)
    factor = np.float32(1.0 if length <= limit else limit / length)
    return {name: array * factor for name, array in update.items()}
