"""Specs with another declaration."""

from typing import Any, TypeVar

from pydantic import BaseModel

S = TypeVar("S", bound=BaseModel)


def changed(spec: S, **changes: Any) -> S:
    """Return *spec* with *changes* of its fields or of its declaration.

    Nothing checks the new declaration: tests also ask for the effect of one that the schema refuses.
    """
    own = {name: value for name, value in changes.items() if name in type(spec).model_fields}
    declared = {name: value for name, value in changes.items() if name not in own}
    declaration: BaseModel = spec.declared  # type: ignore[attr-defined]
    assert not declared.keys() - type(declaration).model_fields.keys()
    return spec.model_copy(update={**own, "declared": declaration.model_copy(update=declared)})
