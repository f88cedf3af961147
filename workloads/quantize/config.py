"""The settings of a quantisation, and its gate."""

from typing import Annotated, Literal

from pydantic import Field, PositiveInt

from workloads.serving.model import StrictModel

Precision = Literal["fp32", "fp16", "int8"]
Share = Annotated[float, Field(ge=0, le=1)]


class QuantizationGate(StrictModel):
    """The limits that a quantised model has to keep on the held-out rows; otherwise it is not published."""

    accuracy_kept: Share | None = 0.98
    """The accuracy as a share of the original's; None, for data without labels: no limit."""
    agreement: Share = 0.95
    """The share of rows with the same answer from both models."""
    cosine: Share = 0.98
    """The mean cosine between both models' outputs for a row."""
    speed: Annotated[float, Field(gt=0)] | None = 0.95
    """Rows per second as a multiple of the original's, for 8 bits on a CPU; None: no limit. It is below 1, because two
    measurements of one model differ."""


class QuantizeSettings(StrictModel):
    precision: Literal["auto", "fp32", "fp16", "int8"] = "auto"
    """The precision; auto: the one that the catalogue recommends for the target."""
    task: Literal["classify", "embed"] = "classify"
    """The meaning of a row's first output: classify takes the largest value, embed the nearest other row."""
    calibration: Literal["minmax", "entropy", "percentile"] = "minmax"
    """The method that derives an activation's range from its observed values."""
    percentile: Annotated[float, Field(gt=50, le=100)] = 99.99
    calibration_rows: PositiveInt = 256
    """The most rows that calibrate."""
    search: bool = True
    """Whether to leave the costliest layers in full precision, as few as possible; False: quantise all layers."""
    margin: Share = 0.5
    """The share of the gate's slack that the search has to save, since other rows judge: it turns 0.98 into 0.99."""
    repeats: PositiveInt = 60
    """Measurements of each latency."""
    gate: QuantizationGate = QuantizationGate()
    publish_slower: str = ""
    """The reason to publish a model below `gate.speed`; it is part of the lineage. Empty: such a model is refused."""
