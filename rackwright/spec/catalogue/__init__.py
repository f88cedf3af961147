"""The catalogue: hardware as data, every value with its source."""

from functools import cache
from importlib.resources import files
from typing import TypeVar

import yaml
from pydantic import Field, TypeAdapter

from rackwright.spec.model import Many, Model
from rackwright.spec.units import Size

T = TypeVar("T")


class Gpu(Model):
    """A model of GPU."""

    name: str
    pci: Many[str]
    """``vendor:device`` ids, in hex, of all its forms."""
    memory: Size
    source: str


class Profile(Model):
    """What a class of host must physically have, at least."""

    gpus: dict[str, int] = Field(default_factory=dict)
    """Model to how many."""
    memory: Size | None = None
    source: str


@cache
def _read(file: str, shape: type[T]) -> dict[str, T]:
    with (files(__name__) / file).open(encoding="utf-8") as stream:
        return TypeAdapter(dict[str, shape]).validate_python(yaml.safe_load(stream))  # type: ignore[valid-type]


GPUS = _read("gpus.yaml", Gpu)
PROFILES = _read("profiles.yaml", Profile)
