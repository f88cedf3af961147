"""Descriptions of fields in JSON Schemas: the docstrings below the attributes of a model and of its bases."""

import inspect

from rackwright.schema import base
from rackwright.schema.base import DescribedModel


class Sized(DescribedModel):
    size: int
    """Size
    in bytes."""
    plain: int = 0


def descriptions(model: type[DescribedModel]) -> dict[str, str | None]:
    return {name: value.get("description") for name, value in model.model_json_schema()["properties"].items()}


def test_each_field_has_the_docstring_of_its_own_class():
    class Named(Sized):
        class Part(DescribedModel):
            name: str
            """Name of the part."""

        name: str
        """Name of the whole."""
        part: Part

    assert descriptions(Named) == {
        "size": "Size\nin bytes.", "plain": None, "name": "Name of the whole.", "part": None,
    }  # fmt: skip
    assert descriptions(Named.Part) == {"name": "Name of the part."}


def test_the_source_of_a_module_is_read_once(monkeypatch):
    read, getsource = [], inspect.getsource
    monkeypatch.setattr(inspect, "getsource", lambda thing: read.append(thing) or getsource(thing))
    base._module_docstrings.cache_clear()

    class Other(Sized):
        """A second model of this module."""

    assert descriptions(Sized) == descriptions(Other)
    assert len(read) == 1
