"""How well a model does beside its original, and whether that is enough."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from workloads.quantize.config import Gate
from workloads.quantize.samples import Samples
from workloads.serving.runtimes.onnx import session

ROWS = 32

# Shape letters: B rows, D values of a row.


@dataclass(frozen=True, slots=True)
class Score:
    """On the same rows, a model beside its original."""

    rows: int
    accuracy: float | None
    """Of the model; None where no labels say what is right."""
    accuracy_before: float | None
    agreement: float
    cosine: float

    @property
    def accuracy_kept(self) -> float | None:
        """The share of the original's accuracy; an original that is never right keeps nothing."""
        if self.accuracy is None or self.accuracy_before is None:
            return None
        return self.accuracy / self.accuracy_before if self.accuracy_before else 0.0


def outputs(path: Path, samples: Samples, threads: int, fused: bool = True) -> np.ndarray:
    """Return the first output of the model *path* for every row: values_BD.

    Args:
        fused: False for a model whose processor is not this one: 8 bits of it overflow on a CPU without VNNI.
    """
    running = session(path, threads, fused)
    name = running.get_outputs()[0].name
    parts = [
        running.run([name], {key: array[first : first + ROWS] for key, array in samples.inputs.items()})[0]
        for first in range(0, len(samples), ROWS)
    ]
    return np.concatenate(parts).reshape(len(samples), -1).astype(np.float64)


def answers(values_BD: np.ndarray, task: str) -> np.ndarray:
    """Return for each row the class it is given, or of embeddings the row that is nearest to it."""
    if task == "classify":
        return values_BD.argmax(1)
    unit_BD = values_BD / np.maximum(np.linalg.norm(values_BD, axis=1, keepdims=True), 1e-12)
    near_BB = unit_BD @ unit_BD.T
    np.fill_diagonal(near_BB, -np.inf)
    return near_BB.argmax(1)


def score(before_BD: np.ndarray, after_BD: np.ndarray, labels: np.ndarray | None, task: str) -> Score:
    """Return how the model that gives *after_BD* does beside the one that gives *before_BD*."""
    before, after = answers(before_BD, task), answers(after_BD, task)

    def accuracy(given: np.ndarray) -> float | None:
        if labels is None:
            return None
        return float((given == labels if task == "classify" else labels[given] == labels).mean())

    norms = np.linalg.norm(before_BD, axis=1) * np.linalg.norm(after_BD, axis=1)
    cosines = (before_BD * after_BD).sum(1) / np.maximum(norms, 1e-12)
    cosine = float(np.nan_to_num(cosines, nan=-1.0).mean())  # a model that gives no numbers is like nothing
    return Score(len(before), accuracy(after), accuracy(before), float((before == after).mean()), cosine)


def shortfalls(found: Score, gate: Gate) -> list[str]:
    """Return in words what *found* lacks for *gate*; nothing where it passes."""
    wanted = {
        "accuracy kept": (found.accuracy_kept, gate.accuracy_kept),
        "agreement": (found.agreement, gate.agreement),
        "cosine": (found.cosine, gate.cosine),
    }
    return [
        f"{name} {'unknown' if got is None else _below(got, want)}, at least {want:.2%}"
        for name, (got, want) in wanted.items()
        if want is not None and (got is None or not got >= want)
    ]


def loosened(gate: Gate) -> list[str]:
    """Return which parts of *gate* ask for less than they do where nobody says anything."""
    usual = Gate()
    return [
        name for name in Gate.model_fields if getattr(gate, name) is None or getattr(gate, name) < getattr(usual, name)
    ]


def _below(got: float, want: float) -> str:
    """Return *got* in percent, with as many digits as show that it is less than *want*."""
    return next(text for digits in range(2, 20) if (text := f"{got:.{digits}%}") != f"{want:.{digits}%}")
