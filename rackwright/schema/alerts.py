"""Alert thresholds for GPUs."""

from typing import Annotated

from pydantic import Field

from rackwright.schema.base import Amount, Schema
from rackwright.schema.units import Size


class Alerts(Schema):
    """Thresholds of `rackwright gpu top`; a higher value is an alert. A lost GPU is always an alert."""

    utilisation_percent: Annotated[int, Field(ge=0, le=100)] = 95
    """Share of the last sample period in which the GPU computed, in percent; 100 disables the alert."""
    memory_used: Size = Size("9000MiB")
    """Memory in use. The default, from the practitioners' guide, suits boards of 16GB; larger boards need more."""
    temperature_celsius: Amount = 85
    """Core temperature, below the limit at which boards slow down by themselves."""
    uncorrected_errors: Amount = 0
    """Memory errors that ECC detected and could not correct, since the driver was loaded."""
    xid_minutes: Amount = 60
    """Age up to which an Xid error of the driver is an alert; 0 disables the alert."""
