"""Compare a model with its original, and check the gate."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from workloads.errors import Diagnostic, UserError
from workloads.quantize.config import QuantizationGate, QuantizeSettings
from workloads.quantize.samples import Samples
from workloads.serving.runtimes.onnx import session

ROWS = 32

# Shape letters: B rows, D values of a row.


@dataclass(frozen=True, slots=True)
class Score:
    """The comparison of a model with its original on the same rows."""

    rows: int
    accuracy: float | None
    """The accuracy of the model; None without labels."""
    accuracy_before: float | None
    agreement: float
    cosine: float

    @property
    def accuracy_kept(self) -> float | None:
        """The accuracy as a share of the original's; 0 if the original is never right."""
        if self.accuracy is None or self.accuracy_before is None:
            return None
        return self.accuracy / self.accuracy_before if self.accuracy_before else 0.0


def outputs(path: Path, samples: Samples, threads: int, fused: bool = True) -> np.ndarray:
    """Return the first output of the model *path* for every row: values_BD.

    Args:
        fused: False for a model for another processor: its 8-bit products would overflow on a CPU without VNNI.

    Raises:
        UserError: The output has not one result for each row.
    """
    runner = session(path, threads, fused)
    name = runner.get_outputs()[0].name
    parts = []
    for first in range(0, len(samples), ROWS):
        rows = {key: array[first : first + ROWS] for key, array in samples.inputs.items()}
        [part] = runner.run([name], rows)
        wanted = min(ROWS, len(samples) - first)
        if not part.ndim or len(part) != wanted:
            problem = f"the output {name} has the shape {list(part.shape)} for {wanted} rows"
            help = "Export the model with its first dimension for rows, of outputs as well"
            raise UserError(Diagnostic(str(path), problem, "one result for each row", help))
        parts.append(part)
    return np.concatenate(parts).reshape(len(samples), -1).astype(np.float64)


def answers(values_BD: np.ndarray, task: str) -> np.ndarray:
    """Return the answer for each row: its class, or for embeddings its nearest other row."""
    if task == "classify":
        return values_BD.argmax(1)
    unit_BD = values_BD / np.maximum(np.linalg.norm(values_BD, axis=1, keepdims=True), 1e-12)
    near_BB = unit_BD @ unit_BD.T
    np.fill_diagonal(near_BB, -np.inf)
    return near_BB.argmax(1)


def score(before_BD: np.ndarray, after_BD: np.ndarray, labels: np.ndarray | None, task: str) -> Score:
    """Return the score of the model with the outputs *after_BD* against the original with *before_BD*."""
    before, after = answers(before_BD, task), answers(after_BD, task)

    def accuracy(answers_B: np.ndarray) -> float | None:
        if labels is None:
            return None
        return float((answers_B == labels if task == "classify" else labels[answers_B] == labels).mean())

    norms = np.linalg.norm(before_BD, axis=1) * np.linalg.norm(after_BD, axis=1)
    cosines = (before_BD * after_BD).sum(1) / np.maximum(norms, 1e-12)
    cosine = float(np.nan_to_num(cosines, nan=-1.0).mean())  # outputs that are no numbers count as the opposite
    return Score(len(before), accuracy(after), accuracy(before), float((before == after).mean()), cosine)


def shortfalls(result: Score, gate: QuantizationGate) -> list[str]:
    """Return the limits of *gate* that *result* misses, in words; an empty list if it passes."""
    thresholds = {
        "accuracy kept": (result.accuracy_kept, gate.accuracy_kept),
        "agreement": (result.agreement, gate.agreement),
        "cosine": (result.cosine, gate.cosine),
    }
    return [
        f"{name} {'unknown' if value is None else _below(value, limit)}, at least {limit:.2%}"
        for name, (value, limit) in thresholds.items()
        if limit is not None and (value is None or not value >= limit)
    ]


def too_slow(speed: float | None, settings: QuantizeSettings) -> list[str]:
    """Return the limit of speed that *speed* misses, in words; an empty list if it passes, or is not judged."""
    limit = settings.gate.speed
    if speed is None or limit is None or speed >= limit or settings.publish_slower:
        return []
    return [f"speed {speed:.2f} times the original's, at least {limit:g} (--publish-slower REASON publishes it)"]


def loosened_limits(gate: QuantizationGate) -> list[str]:
    """Return the names of the limits of *gate* that are lower than the defaults."""
    usual = QuantizationGate()
    return [
        name
        for name in QuantizationGate.model_fields
        if getattr(gate, name) is None or getattr(gate, name) < getattr(usual, name)
    ]


def _below(value: float, limit: float) -> str:
    """Return *value* in percent, with enough digits to show that it is less than *limit*."""
    return next(text for digits in range(2, 20) if (text := f"{value:.{digits}%}") != f"{limit:.{digits}%}")
