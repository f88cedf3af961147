"""The part of JSON Schema that llama.cpp's grammars enforce."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workloads.serving.openai.grammar import ANNOTATIONS, ANY, KEYWORDS, enforceable

CLOSED = {"type": "object", "additionalProperties": False}
ONE, TWO = {"const": 1}, {"const": 2}


def an_object(*required: str, **properties: Any) -> dict[str, Any]:
    return {**CLOSED, "properties": properties, "required": [*required]}


@pytest.mark.parametrize(
    ("schema", "form"),
    [
        ({}, ANY),
        ({"type": "string", "title": "a", "description": "b", "x-order": 1}, {"type": "string"}),
        ({"type": "string", "format": "email"}, {"type": "string"}),
        ({"type": "string", "format": "date"}, {"type": "string", "format": "date"}),
        ({"type": "string", "format": "date", "maxLength": 4}, {"type": "string", "minLength": 0, "maxLength": 4}),
        ({"type": ["string", "null"]}, {"anyOf": [{"type": "string"}, {"type": "null"}]}),
        ({"anyOf": [{"type": "integer"}, {"type": "null"}], "default": None, "title": "N"},
         {"anyOf": [{"type": "integer"}, {"type": "null"}]}),
        ({"allOf": [{"$ref": "#/$defs/K"}], "default": "x", "$defs": {"K": {"enum": ["x"], "type": "string"}}},
         {"enum": ["x"]}),
        ({"allOf": [{"$ref": "#/$defs/K"}, {"properties": {"b": TWO}}],
          "$defs": {"K": {"properties": {"a": ONE}, "required": ["a"]}}},
         an_object("a", a={"enum": [1]}, b={"enum": [2]})),
        ({"$ref": "#/$defs/K", "description": "d", "$defs": {"K": {"const": True}}}, {"enum": [True]}),
        ({"$ref": "#/$defs/a~1b~01%20c", "$defs": {"a/b~1 c": {"const": 1}}}, {"enum": [1]}),
        ({"type": "integer", "enum": [1, "a", 1.5, True, 2.0]}, {"enum": [1, 2.0]}),
        ({"const": "c", "type": "string"}, {"enum": ["c"]}),
        ({"type": "integer", "minimum": 2.5, "exclusiveMinimum": 4, "exclusiveMaximum": 7.5},
         {"type": "integer", "minimum": 5, "maximum": 7}),
        ({"type": "integer", "maximum": -5}, {"type": "integer", "minimum": 1 - 10**15, "maximum": -5}),
        ({"type": "integer", "minimum": 10**15}, {"type": "integer", "minimum": 10**15, "maximum": 2**63 - 2}),
        ({"type": "array"}, {"type": "array", "items": ANY, "minItems": 0}),
        ({"items": ONE, "uniqueItems": False}, {"type": "array", "items": {"enum": [1]}, "minItems": 0}),
        ({"type": "null", "maxItems": 1, "minimum": 1}, {"type": "null"}),
        ({"type": "array", "items": False}, {"type": "array", "items": ANY, "minItems": 0, "maxItems": 0}),
        ({"prefixItems": [ONE, TWO], "items": True, "maxItems": 1}, {"type": "array", "prefixItems": [{"enum": [1]}]}),
        ({"type": "object"}, {"type": "object"}),
        ({"type": "object", "additionalProperties": {"type": "null"}},
         {"type": "object", "properties": {}, "required": [], "additionalProperties": {"type": "null"}}),
        ({"properties": {"a": True, "b": False}, "required": ["a"], "additionalProperties": True},
         an_object("a", a=ANY)),
        ({"oneOf": [an_object("t", t=ONE), an_object("t", t=TWO)]},
         {"anyOf": [an_object("t", t={"enum": [1]}), an_object("t", t={"enum": [2]})]}),
        ({"oneOf": [an_object(t=ONE), an_object(t=TWO)], "discriminator": {"propertyName": "t"}},
         {"anyOf": [an_object("t", t={"enum": [1]}), an_object("t", t={"enum": [2]})]}),
        ({"oneOf": [an_object("a", a={}), an_object("b", b={})]},
         {"anyOf": [an_object("a", a=ANY), an_object("b", b=ANY)]}),
        ({"oneOf": [{"type": "string"}, {"type": "null"}]}, {"anyOf": [{"type": "string"}, {"type": "null"}]}),
    ],
)  # fmt: skip
def test_a_schema_that_a_grammar_can_enforce_is_rewritten(schema: dict[str, Any], form: dict[str, Any]) -> None:
    assert enforceable(schema) == form


def test_schemas_of_pydantic_are_enforced() -> None:
    kind = {"enum": ["x", "y"], "title": "Kind", "type": "string"}
    part = {"properties": {"kind": {"$ref": "#/$defs/Kind", "description": "d"}}, "required": ["kind"],
            "title": "Part", "type": "object"}  # fmt: skip
    schema = {
        "$defs": {"Kind": kind, "Part": part}, "title": "Whole", "type": "object", "required": ["parts", "n"],
        "properties": {
            "parts": {"items": {"$ref": "#/$defs/Part"}, "title": "Parts", "type": "array"},
            "n": {"anyOf": [{"type": "integer"}, {"type": "null"}], "title": "N"},
        },
    }  # fmt: skip
    assert enforceable(schema) == an_object(
        "parts", "n",
        parts={"type": "array", "minItems": 0, "items": an_object("kind", kind={"enum": ["x", "y"]})},
        n={"anyOf": [{"type": "integer"}, {"type": "null"}]},
    )  # fmt: skip


def test_references_whose_names_llama_cpp_confuses_stay_apart() -> None:
    """
    llama.cpp has one rule for all references whose names differ in characters other than letters and digits.
    """
    schema = {"properties": {"x": {"$ref": "#/$defs/a b"}, "y": {"$ref": "#/$defs/a_b"}},
              "$defs": {"a b": ONE, "a_b": TWO}}  # fmt: skip
    assert enforceable(schema)["properties"] == {"x": {"enum": [1]}, "y": {"enum": [2]}}


IGNORED = "which llama.cpp's grammar does not enforce"


@pytest.mark.parametrize(
    ("schema", "reason"),
    [
        *[
            ({"type": "object", "properties": {"a": {keyword: value}}}, f"properties.a.{keyword}.*, {IGNORED}")
            for keyword, value in {
                "multipleOf": 2, "minimum": 1, "contains": {}, "if": {}, "then": {}, "else": {}, "nullable": True,
                "dependentRequired": {}, "dependentSchemas": {}, "not": {}, "propertyNames": {}, "minProperties": 1,
                "maxProperties": 1,
                "patternProperties": {}, "unevaluatedProperties": False, "unevaluatedItems": False,
            }.items()
        ],
        *[({"type": "number", keyword: 1}, f"the schema has {keyword}.*, {IGNORED}") for keyword in
          ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf")],
        ({"type": ["integer", "number"], "minimum": 1}, "minimum of type number"),
        ({"type": "array", "uniqueItems": True}, f"uniqueItems, {IGNORED}"),
        ({"$ref": "#/$defs/a", "required": ["b"], "$defs": {"a": {}}}, r"required beside \$ref"),
        ({"anyOf": [{}], "type": "object"}, "type beside anyOf"),
        ({"items": {"oneOf": [{}], "required": ["a"]}}, "items.required beside oneOf"),
        ({"allOf": [{}], "minLength": 1}, "minLength beside allOf"),
        *[({"allOf": [{"properties": {"a": {}}}, other]}, "allOf with several schemas that are no objects with prop")
          for other in ({"type": "string"}, {"properties": {"a": {}}}, an_object(b={}), {"$ref": "#/$defs/b"}, {})],
        ({"enum": ["a"], "maxLength": 1}, "maxLength beside enum or const"),
        ({"properties": {"a": {}}, "additionalProperties": {"type": "null"}}, "additionalProperties with a schema"),
        ({"oneOf": [{"type": "integer"}, {"type": "number"}]}, "the schemas oneOf, of which a value may have several"),
        ({"oneOf": [{"type": "string"}, {"enum": ["a"]}]}, "may have several"),
        ({"oneOf": [an_object(t=ONE), an_object(t=TWO)]}, "may have several"),
        ({"oneOf": [an_object("a", a={}, b={}), an_object("b", a={}, b={})]}, "may have several"),
        ({"type": "object", "required": ["a"]}, "'a' at required, which properties does not have"),
        ({"properties": {"$ref": {}}}, r"a property \$ref at its top, which llama.cpp misreads"),
        ({"const": [{"$defs": 1}]}, r"a value with the key \$defs at its top, which llama.cpp misreads"),
        ({"type": "integer", "minimum": 5, "maximum": 3}, "no value has the schema at its top"),
        ({"type": "integer", "minimum": 2**64}, "an integer beyond 64 bits"),
        ({"items": {"type": "string", "minLength": 5, "maxLength": 3}}, "no value has the schema at items"),
        ({"type": "array", "minItems": 5, "maxItems": 3}, "no value"),
        ({"type": "array", "minItems": 1, "items": False}, "no value"),
        ({"prefixItems": [{}], "minItems": 2}, "minItems above the number of prefixItems"),
        ({"type": "string", "enum": [1]}, "no value"),
        ({"const": 1, "enum": [True]}, "no value"),
        ({"properties": {"a": False}, "required": ["a"]}, "no value has the schema at properties.a"),
        ({"const": 2**63}, "an integer beyond 64 bits"),
        ({"const": float("nan")}, "a number that JSON does not have"),
        ({"type": "widget"}, "at type no type"),
        ({"type": []}, "at type no type"),
        ({"enum": []}, "no value"),
        ({"anyOf": []}, "no list of schemas at anyOf"),
        ({"items": 5}, "no schema at items"),
    ],
)  # fmt: skip
def test_a_schema_that_no_grammar_enforces_is_refused_with_the_place(schema: dict[str, Any], reason: str) -> None:
    """
    Before, llama.cpp ignored these keywords, and the answer of status 200 lacked the schema.
    """
    with pytest.raises(ValueError, match=reason):
        enforceable({"$defs": {"b": an_object(b={})}, **schema})


KEYS = st.sampled_from([
    "$ref", "anyOf", "oneOf", "allOf", "enum", "const", "type", "not", *ANNOTATIONS,
    *(keyword for keywords in KEYWORDS.values() for keyword in keywords),
])  # fmt: skip
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.sampled_from([*KEYWORDS, "#/$defs", "date"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=12,
)


@settings(max_examples=1000, deadline=None)
@given(st.dictionaries(KEYS.filter(lambda key: key != "$ref"), VALUES, max_size=4))
def test_each_schema_is_rewritten_or_refused(schema: dict[str, Any]) -> None:
    try:
        form = enforceable({key: value for key, value in schema.items() if "$ref" not in str(value)})
    except ValueError:
        return
    assert form == enforceable(form), "a form is its own form"
