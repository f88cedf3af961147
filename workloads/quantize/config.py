"""How a model is quantised, and what it has to keep, complete."""

from typing import Annotated, Literal

from pydantic import Field, PositiveInt

from workloads.serving.model import StrictModel

Precision = Literal["fp32", "fp16", "int8"]
Share = Annotated[float, Field(ge=0, le=1)]


class Gate(StrictModel):
    """What the quantised model has to keep on the rows that are held out; below it nothing is published."""

    accuracy_kept: Share | None = 0.98
    """Its accuracy as a share of the original's; None, for data without labels: not asked."""
    agreement: Share = 0.95
    """The share of rows that both answer alike."""
    cosine: Share = 0.98
    """The mean cosine between what both give for a row."""


class Settings(StrictModel):
    precision: Literal["auto", "fp32", "fp16", "int8"] = "auto"
    """auto: what the catalogue says the target is made for."""
    task: Literal["classify", "embed"] = "classify"
    """What a row's first output answers: which of its values is the largest, or which other row is the nearest."""
    calibration: Literal["minmax", "entropy", "percentile"] = "minmax"
    """How the range of an activation is found from what it was seen to be."""
    percentile: Annotated[float, Field(gt=50, le=100)] = 99.99
    calibration_rows: PositiveInt = 256
    """At most so many rows are calibrated with."""
    search: bool = True
    """Leave those layers in full precision that cost the most, as many as it takes; False: quantise them all."""
    margin: Share = 0.5
    """By what share of what the gate leaves the search does better, as its rows are others: of 0.98 it makes 0.99."""
    repeats: PositiveInt = 60
    """Of each latency."""
    gate: Gate = Gate()
