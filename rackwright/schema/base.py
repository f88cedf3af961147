"""The base class of all models of a declaration."""

from collections.abc import Iterator
from itertools import pairwise
from typing import Annotated, Any, TypeVar, get_args, get_origin

from pydantic import BaseModel, ConfigDict, Field, GetJsonSchemaHandler

T = TypeVar("T")


class DescribedModel(BaseModel):
    """A model whose JSON Schema has the docstrings of its fields as descriptions."""

    @classmethod
    def __get_pydantic_json_schema__(cls, core_schema: Any, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        generated = handler(core_schema)
        properties = handler.resolve_ref_schema(generated)["properties"]
        for model in reversed(cls.__mro__[: cls.__mro__.index(DescribedModel)]):
            for name, text in _attribute_docstrings(model).items():
                if name in cls.model_fields:
                    properties[cls.model_fields[name].alias or name]["description"] = text
        return generated


class Schema(DescribedModel):
    """A part of the declaration.

    pydantic builds a validator at the first use: a command uses few of the models, and each build takes milliseconds.
    """

    model_config = ConfigDict(strict=True, frozen=True, extra="forbid", defer_build=True)


Many = Annotated[tuple[T, ...], Field(strict=False)]
"""A list in YAML, a list or tuple in Python."""


def models(*roots: type[BaseModel], lists: bool = True) -> frozenset[type[BaseModel]]:
    """Return *roots* and the models of all values below them.

    Args:
        lists: Whether the items of lists count as well.
    """
    below = {part for root in roots for field in root.model_fields.values() for part in _parts(field.annotation, lists)}
    return frozenset(roots) | (models(*below, lists=lists) if below else frozenset())


def _parts(shape: Any, lists: bool) -> Iterator[type[BaseModel]]:
    """Yield the models in the type *shape*."""
    if isinstance(shape, type) and issubclass(shape, BaseModel):
        yield shape
    elif lists or get_origin(shape) is not tuple:
        for argument in get_args(shape):
            yield from _parts(argument, lists)


def _attribute_docstrings(model: type) -> dict[str, str]:
    """Return the docstrings below the attributes of *model*, by attribute, as its source has them.

    pydantic's own `use_attribute_docstrings` parses the source of every model at each start.
    """
    import ast
    import inspect

    [definition] = ast.parse(inspect.getsource(model)).body
    docstrings = {}
    for statements in pairwise(getattr(definition, "body", ())):
        match statements:
            case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(text))):
                docstrings[name] = inspect.cleandoc(text)
    return docstrings
