"""Which state of a GPU somebody should look at."""

from typing import Annotated

from pydantic import Field

from rackwright.schema.base import Schema
from rackwright.schema.units import Size


class Alerts(Schema):
    """Thresholds of `rackwright gpu top`: more than this is an alert. A GPU that is lost always is one."""

    utilisation_percent: Annotated[int, Field(ge=0, le=100)] = 95
    """Share of the last moments in which it computed; 100 for no alert."""
    memory_used: Size = Size("9000MiB")
    """Memory that is in use: the practitioners' guide has this for boards of 16GB; larger ones want more."""
    temperature_celsius: Annotated[int, Field(ge=0)] = 85
    """Degrees of its core, below those at which boards slow down by themselves."""
    uncorrected_errors: Annotated[int, Field(ge=0)] = 0
    """Errors of its memory that ECC found and could not correct, since the driver was loaded."""
    xid_minutes: Annotated[int, Field(ge=0)] = 60
    """Age up to which an Xid error of the driver is an alert; 0 for none."""
