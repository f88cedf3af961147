"""The part of JSON Schema that llama.cpp's grammars enforce.

llama.cpp ignores a keyword that its grammar cannot express, so that an answer would lack the schema. A schema is
rewritten into a form that the grammar enforces as a whole, or refused. The form may allow fewer answers than the
schema, such as no additional properties, and never others.

Source: common/json-schema-to-grammar.cpp of llama.cpp.
"""

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from workloads.serving.openai.schema import resolve_reference

Schema = dict[str, Any]
ANNOTATIONS = frozenset((
    "$anchor", "$comment", "$defs", "$id", "$schema", "contentEncoding", "contentMediaType", "contentSchema", "default",
    "definitions", "deprecated", "description", "discriminator", "example", "examples", "readOnly", "title",
    "writeOnly",
))  # fmt: skip
"""Keywords that no value has to fit, and the parts that references name."""
BOUNDS = ("minimum", "exclusiveMinimum", "maximum", "exclusiveMaximum")
KEYWORDS: Mapping[str, tuple[str, ...]] = {
    "object": ("properties", "required", "additionalProperties"),
    "array": ("items", "prefixItems", "minItems", "maxItems", "uniqueItems"),
    "string": ("minLength", "maxLength", "format"),
    "integer": (*BOUNDS, "format"), "number": ("format",), "boolean": (), "null": (),
}  # fmt: skip
"""The keywords of each type that the grammar enforces; a format is an annotation."""
TYPED = frozenset(keyword for keywords in KEYWORDS.values() for keyword in keywords)
FORMATS = ("date", "time", "date-time", "uuid")
"""The formats that the grammar knows."""
ANY: Mapping[str, Any] = {"title": "any value"}
"""A schema of all values: llama.cpp takes an empty one for objects alone."""
LARGEST, DIGITS = 2**63 - 2, 10**15 - 1
"""The largest bound of an integer, and the bound in place of an absent one: llama.cpp's grammar of a single bound
allows leading zeros below 0."""
RESERVED = ("$ref", "$defs")
"""Keys that llama.cpp reads anywhere in a schema, also as the name of a property and within a value."""


def enforceable(schema: Schema) -> Schema:
    """Return a schema without references that the grammar enforces as a whole; its values have *schema*, too.

    Args:
        schema: A schema within the limits of `measure_schema`, so that its references end.

    Raises:
        ValueError: the grammar does not enforce a keyword, or no value has the schema; the message has the place.
    """
    return _Reader(schema).read(schema, "")


class _Reader:
    def __init__(self, root: Schema) -> None:
        self._root = root

    def read(self, schema: Any, path: str) -> Schema:
        """Return the form of *schema*, the part of the whole one at *path*."""
        if schema is True:
            return {**ANY}
        if not isinstance(schema, dict):
            raise _Empty(path) if schema is False else ValueError(f"the schema has no schema at {path or 'its top'}")
        own = {key: value for key, value in schema.items() if not _is_annotation(key)}
        for keyword, read in (
            ("$ref", self._reference), ("anyOf", self._alternatives), ("oneOf", self._one), ("allOf", self._all),
        ):  # fmt: skip
            if keyword in own:
                for other in sorted(own.keys() - {keyword}):
                    raise _not_enforced(other, path, f" beside {keyword}")
                return read(own[keyword], _join(path, keyword), schema)
        if "const" in own or "enum" in own:
            return _read_values(own, path)
        return self._read_types(own, path)

    def _reference(self, reference: Any, path: str, schema: Schema) -> Schema:
        if not isinstance(reference, str):
            raise ValueError(f"the schema has no reference at {path}")
        return self.read(resolve_reference(self._root, reference), path)

    def _alternatives(self, schemas: Any, path: str, schema: Schema) -> Schema:
        return {"anyOf": [self.read(each, _join(path, number)) for number, each in _list_schemas(schemas, path)]}

    def _all(self, schemas: Any, path: str, schema: Schema) -> Schema:
        """Return the form of one schema, or of objects that differ in the names of their properties."""
        parts = _list_schemas(schemas, path)
        forms = [self.read(each, _join(path, number)) for number, each in parts]
        if len(forms) == 1:
            return forms[0]
        merged: Schema = {"type": "object", "properties": {}, "required": [], "additionalProperties": False}
        for (_, part), form in zip(parts, forms, strict=True):
            properties = form.get("properties", {})
            if not properties or not self._is_open(part) or properties.keys() & merged["properties"].keys():
                raise _not_enforced(path, "", " with several schemas that are no objects with properties of their own")
            merged["properties"] |= properties
            merged["required"] += form["required"]
        return merged

    def _is_open(self, schema: Any) -> bool:
        """Return whether *schema* itself allows additional properties."""
        while "$ref" in schema:
            schema = resolve_reference(self._root, schema["$ref"])
        return schema.get("additionalProperties", True) is True

    def _one(self, schemas: Any, path: str, schema: Schema) -> Schema:
        """Return the alternatives if the grammar of each writes no value that another one has as well."""
        read = self._alternatives(schemas, path, schema)["anyOf"]
        discriminator = schema.get("discriminator")
        name = discriminator.get("propertyName") if isinstance(discriminator, dict) else None
        for each in read:
            if isinstance(name, str) and name in each.get("properties", {}) and name not in each["required"]:
                each["required"].append(name)
        for number, each in enumerate(read):
            for other in read[:number] + read[number + 1 :]:
                if not all(_excludes(one, two) for one in _leaves(each) for two in _leaves(other)):
                    reason = "of which a value may have several, and llama.cpp's grammar reads it as anyOf"
                    raise ValueError(f"the schema has the schemas {path}, {reason}; send anyOf")
        return {"anyOf": read}

    def _read_types(self, own: Schema, path: str) -> Schema:
        """Return the form of a schema with a type, or with the keywords of one."""
        types = _types(own, path)
        keywords = {*own} - {"type"}
        if not types:
            for keyword in sorted(keywords - {"format"}):
                raise _not_enforced(keyword, path, " without a type")
            return {**ANY}
        for keyword in sorted(keywords - TYPED):  # those of other types mean nothing for a value of these
            raise _not_enforced(keyword, path)
        if "number" in types and keywords & {*BOUNDS}:
            raise _not_enforced(min(keywords & {*BOUNDS}), path, " of type number")
        readers: dict[str, Callable[[Schema, str], Schema]] = {
            "object": self._object, "array": self._array, "string": _read_string, "integer": _read_integer,
        }  # fmt: skip
        forms = [readers[kind](own, path) if kind in readers else {"type": kind} for kind in types]
        return forms[0] if len(forms) == 1 else {"anyOf": forms}

    def _object(self, own: Schema, path: str) -> Schema:
        properties, required = own.get("properties", {}), own.get("required", [])
        if not isinstance(properties, dict) or not isinstance(required, list):
            raise ValueError(f"the schema has properties or required of another type at {path or 'its top'}")
        additional = own.get("additionalProperties", True)
        for name in required:
            if not isinstance(name, str) or name not in properties:
                place = _join(path, "required")
                raise ValueError(f"the schema has {name!r:.60} at {place}, which properties does not have")
        for name in properties:
            if name in RESERVED:
                raise ValueError(f"the schema has a property {name} at {path or 'its top'}, which llama.cpp misreads")
        if not properties:
            if additional is True:
                return {"type": "object"}
            place = _join(path, "additionalProperties")
            return {
                "type": "object", "properties": {}, "required": [],
                "additionalProperties": additional is not False and self.read(additional, place),
            }  # fmt: skip
        if not isinstance(additional, bool):
            raise _not_enforced("additionalProperties", path, " with a schema beside properties")
        forms = {
            name: self.read(each, _join(path, "properties", name))
            for name, each in properties.items()
            if each is not False or name in required
        }
        return {"type": "object", "properties": forms, "required": [*required], "additionalProperties": False}

    def _array(self, own: Schema, path: str) -> Schema:
        least, most = _range(own, "minItems", "maxItems", path)
        items, tuple_ = own.get("items", True), own.get("prefixItems")
        if own.get("uniqueItems", False) is not False:
            raise _not_enforced("uniqueItems", path)
        if isinstance(items, list):
            tuple_ = items
        if tuple_ is not None:
            place = _join(path, "prefixItems" if "prefixItems" in own else "items")
            parts = [self.read(each, _join(place, number)) for number, each in _list_schemas(tuple_, place)]
            if least > len(parts):
                raise _not_enforced("minItems", path, " above the number of prefixItems")
            parts = parts[:most]
            if parts:
                return {"type": "array", "prefixItems": parts}
            items, most = True, 0
        if items is False:
            items, most = True, 0
        if least > (math.inf if most is None else most):
            raise _Empty(path)
        limits = {"minItems": least, **({} if most is None else {"maxItems": most})}
        return {"type": "array", "items": self.read(items, _join(path, "items")), **limits}


class _Empty(ValueError):
    """A part of a schema that no value has."""

    def __init__(self, path: str) -> None:
        super().__init__(f"no value has the schema at {path or 'its top'}")


def _join(path: str, *names: object) -> str:
    return ".".join(map(str, (*([path] if path else []), *names)))


def _not_enforced(keyword: str, path: str, beside: str = "") -> ValueError:
    place = _join(path, keyword)[:200]
    return ValueError(
        f"the schema has {place}{beside}, which llama.cpp's grammar does not enforce; leave it out, and check the"
        " answer with it instead"
    )


def _is_annotation(keyword: str) -> bool:
    return keyword in ANNOTATIONS or keyword.startswith("x-")


def _list_schemas(schemas: Any, path: str) -> list[tuple[int, Any]]:
    if not isinstance(schemas, list) or not schemas:
        raise ValueError(f"the schema has no list of schemas at {path}")
    return [*enumerate(schemas)]


def _types(own: Schema, path: str) -> list[str]:
    """Return the types that *own* allows, or that its keywords are about; empty for all."""
    if "type" in own:
        types = own["type"] if isinstance(own["type"], list) else [own["type"]]
        if not types or any(not isinstance(each, str) or each not in KEYWORDS for each in types):
            raise ValueError(f"the schema has at {_join(path, 'type')} no type; the types are {', '.join(KEYWORDS)}")
        return [*dict.fromkeys(types)]
    return [kind for kind in ("object", "array", "string") if own.keys() & {*KEYWORDS[kind]} - {"format"}][:1]


def _read_values(own: Schema, path: str) -> Schema:
    """Return the form of the values of `enum` and `const` that have the type beside them."""
    for keyword in sorted(own.keys() - {"enum", "const", "type", "format"}):
        raise _not_enforced(keyword, path, " beside enum or const")
    if not isinstance(values := own.get("enum", [own.get("const")]), list):
        raise ValueError(f"the schema has no list at {_join(path, 'enum')}")
    if {"const", "enum"} <= own.keys():
        values = [each for each in values if _same(each, own["const"])]
    types = _types({"type": own["type"]}, path) if "type" in own else [*KEYWORDS]
    values = [each for each in values if any(_has_type(each, kind) for kind in types)]
    if not values:
        raise _Empty(path)
    for each in values:
        _check_value(each, path)
    return {"enum": values}


def _has_type(value: object, kind: str) -> bool:
    if isinstance(value, bool) or value is None:
        return kind == ("null" if value is None else "boolean")
    if kind == "integer":
        return isinstance(value, int) or (isinstance(value, float) and value.is_integer())
    kinds: Mapping[str, tuple[type, ...]] = {
        "number": (int, float),
        "string": (str,),
        "array": (list,),
        "object": (dict,),
    }
    return isinstance(value, kinds.get(kind, ()))


def _same(one: object, two: object) -> bool:
    """Return whether two values of JSON are equal: 1 is 1.0, and not true."""
    if isinstance(one, list) and isinstance(two, list):
        return len(one) == len(two) and all(map(_same, one, two))
    if isinstance(one, dict) and isinstance(two, dict):
        return one.keys() == two.keys() and all(_same(one[key], two[key]) for key in one)
    return one == two and isinstance(one, bool) == isinstance(two, bool)


def _check_value(value: object, path: str) -> None:
    """Check that llama.cpp writes *value* as it is.

    Raises:
        ValueError: it does not.
    """
    if isinstance(value, dict):
        if found := [key for key in RESERVED if key in value]:
            raise ValueError(
                f"the schema has a value with the key {found[0]} at {path or 'its top'}, which llama.cpp misreads"
            )
        for each in value.values():
            _check_value(each, path)
    elif isinstance(value, list):
        for each in value:
            _check_value(each, path)
    elif isinstance(value, int) and not -(2**63) <= value < 2**63:
        raise ValueError(f"the schema has an integer beyond 64 bits at {path or 'its top'}")
    elif isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"the schema has a number that JSON does not have at {path or 'its top'}")


def _range(own: Schema, least: str, most: str, path: str) -> tuple[int, int | None]:
    """Return the numbers at *least* and *most*, which `measure_schema` has checked."""
    for keyword in (least, most):
        value = own.get(keyword, 0)
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise ValueError(f"the schema has no number at {_join(path, keyword)}")
    return int(own.get(least, 0)), (int(own[most]) if most in own else None)


def _read_string(own: Schema, path: str) -> Schema:
    least, most = _range(own, "minLength", "maxLength", path)
    if most is not None and least > most:
        raise _Empty(path)
    if not least and most is None:
        # a format beside a length is an annotation alone: the grammar enforces one of them
        return {"type": "string", **({"format": own["format"]} if own.get("format") in FORMATS else {})}
    return {"type": "string", "minLength": least, **({} if most is None else {"maxLength": most})}


def _read_integer(own: Schema, path: str) -> Schema:
    for keyword in BOUNDS:
        value = own.get(keyword, 0)
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise ValueError(f"the schema has no number at {_join(path, keyword)}")
    least = [math.ceil(own["minimum"])] if "minimum" in own else []
    least += [math.floor(own["exclusiveMinimum"]) + 1] if "exclusiveMinimum" in own else []
    most = [math.floor(own["maximum"])] if "maximum" in own else []
    most += [math.ceil(own["exclusiveMaximum"]) - 1] if "exclusiveMaximum" in own else []
    if not least and not most:
        return {"type": "integer"}
    low = max(least) if least else -DIGITS if min(most) > -DIGITS else -LARGEST
    high = min(most) if most else DIGITS if low < DIGITS else LARGEST
    if low > LARGEST or high < -LARGEST:
        raise ValueError(f"the schema has an integer beyond 64 bits at {path or 'its top'}")
    low, high = max(low, -LARGEST), min(high, LARGEST)
    if low > high:
        raise _Empty(path)
    return {"type": "integer", "minimum": low, "maximum": high}


def _leaves(form: Schema) -> Iterable[Schema]:
    if "anyOf" in form:
        for each in form["anyOf"]:
            yield from _leaves(each)
    else:
        yield form


def _excludes(one: Schema, two: Schema) -> bool:
    """Return whether the grammar of the form *one* writes no value that has the form *two*, also if *two* is open."""
    if "enum" in one:
        return not any(_may_have(value, two) for value in one["enum"])
    if "enum" in two:
        return not any(_may_have(value, one) for value in two["enum"])
    kinds = {one.get("type"), two.get("type")}
    if None in kinds:
        return False
    if len(kinds) == 2:
        return kinds != {"integer", "number"}
    if kinds != {"object"}:
        return False
    mine, others = one.get("properties", {}), two.get("properties", {})
    closed = one.get("additionalProperties") is False
    return (closed and any(name not in mine for name in two.get("required", ()))) or any(
        all(_excludes(a, b) for a in _leaves(mine[name]) for b in _leaves(others[name]))
        for name in one.get("required", ())
        if name in others
    )


def _may_have(value: object, form: Schema) -> bool:
    """Return whether *value* may have *form*, by its values or its type."""
    if "enum" in form:
        return any(_same(value, each) for each in form["enum"])
    return "type" not in form or _has_type(value, form["type"])
