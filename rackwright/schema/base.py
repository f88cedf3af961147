"""The base class of all models of a declaration."""

from typing import Annotated, TypeVar

from pydantic import BaseModel, ConfigDict, Field

T = TypeVar("T")


class Schema(BaseModel):
    """A part of the declaration. The docstrings of its fields are the descriptions in the JSON Schema."""

    model_config = ConfigDict(strict=True, frozen=True, extra="forbid", use_attribute_docstrings=True)


Many = Annotated[tuple[T, ...], Field(strict=False)]
"""A list in YAML, a list or tuple in Python."""
