"""The base class of all models of a declaration."""

from collections.abc import Iterator, Mapping
from functools import cache
from itertools import pairwise
from typing import Annotated, Any, Self, TypeVar, get_args, get_origin

from pydantic import BaseModel, ConfigDict, Field, GetJsonSchemaHandler, model_validator

from rackwright.schema.problem import Keys, Problem, line_problem, raise_any

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

    model_config = ConfigDict(strict=True, frozen=True, extra="forbid", defer_build=True, allow_inf_nan=False)

    @model_validator(mode="after")
    def _is_printable(self) -> Self:
        raise_any(_unprintable_texts(self))
        return self


class _SeveralLines:
    """A mark of a field with a text of several lines, or with values that are checked elsewhere.

    All other texts of a declaration are one printable line.
    """


SEVERAL_LINES = _SeveralLines()


def _unprintable_texts(model: BaseModel) -> Iterator[Problem]:
    """Yield a problem for each text of *model* itself, and of lists and mappings in it, that is not one line."""
    several = _fields_of_lines(type(model))
    for name, value in model.__dict__.items():
        if type(value) is str:
            if not value.isprintable() and name not in several and (problem := line_problem(value)):
                yield problem.below(name)
        elif value and type(value) in (tuple, list, dict) and name not in several:
            yield from _unprintable_items(value, (name,))


def _unprintable_items(value: Any, keys: Keys) -> Iterator[Problem]:
    if isinstance(value, str):
        if problem := line_problem(value):
            yield problem.below(*keys)
    elif isinstance(value, Mapping):
        for key, item in value.items():
            if isinstance(key, str) and (problem := line_problem(key)):
                yield problem.below(*keys, key)
            yield from _unprintable_items(item, (*keys, key))
    elif isinstance(value, tuple | list):
        for index, item in enumerate(value):
            yield from _unprintable_items(item, (*keys, index))


@cache
def _fields_of_lines(model: type[BaseModel]) -> frozenset[str]:
    """Return the fields of *model* with a text of several lines."""
    return frozenset(
        name
        for name, field in model.model_fields.items()
        if SEVERAL_LINES in field.metadata or any(_is_of_lines(each) for each in get_args(field.annotation))
    )


def _is_of_lines(shape: Any) -> bool:
    return any(part is SEVERAL_LINES or _is_of_lines(part) for part in get_args(shape)) or SEVERAL_LINES in getattr(
        shape, "__metadata__", ()
    )


COUNT_MAX = 10**9
"""Largest number of a declaration without a limit of its own: no unit, quota or counter overflows with it."""
Count = Annotated[int, Field(ge=1, le=COUNT_MAX)]
Amount = Annotated[int, Field(ge=0, le=COUNT_MAX)]
"""A number that may be 0."""
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
    return _module_docstrings(model.__module__)[model.__qualname__]


@cache
def _module_docstrings(name: str) -> dict[str, dict[str, str]]:
    """Return the docstrings of the classes of the module *name*, by qualified name: one look at the source for all."""
    import ast
    import inspect
    import sys

    def add(body: list[ast.stmt], prefix: str) -> None:
        for node in body:
            if isinstance(node, ast.FunctionDef):
                add(node.body, f"{prefix}{node.name}.<locals>.")
            elif isinstance(node, ast.ClassDef):
                classes[f"{prefix}{node.name}"] = docstrings = {}
                for statements in pairwise(node.body):
                    match statements:
                        case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(text))):
                            docstrings[name] = inspect.cleandoc(text)
                add(node.body, f"{prefix}{node.name}.")

    classes: dict[str, dict[str, str]] = {}
    add(ast.parse(inspect.getsource(sys.modules[name])).body, "")
    return classes
