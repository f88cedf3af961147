"""What all parts of a declaration have in common."""

from typing import Annotated, TypeVar

from pydantic import BaseModel, ConfigDict, Field

T = TypeVar("T")


class Schema(BaseModel):
    """A noun of the declaration. Its docstrings are also the descriptions in the JSON Schema."""

    model_config = ConfigDict(strict=True, frozen=True, extra="forbid", use_attribute_docstrings=True)


Many = Annotated[tuple[T, ...], Field(strict=False)]
"""A list in YAML, a list or tuple in Python."""
