"""The base of all parts of a configuration, and the types of their numbers."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

Automatic = Literal["auto"] | bool
"""A setting whose default follows from the model and the device."""
Share = Annotated[float, Field(ge=0, lt=1)]
Positive = Annotated[float, Field(ge=1e-12, le=1e6)]
"""A factor or rate, whose products and sums remain numbers."""
NotNegative = Annotated[float, Field(ge=0, le=1e6)]


class ConfigSchema(BaseModel):
    model_config = ConfigDict(strict=True, frozen=True, extra="forbid", allow_inf_nan=False)
