"""The merge of groups into hosts, by its laws."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from rackwright.fleet.layers import merge

keys = st.sampled_from("abc")
scalars = st.integers(0, 3) | st.text("xy", max_size=2) | st.booleans()
lists = st.lists(scalars, max_size=3)
settings = st.recursive(scalars | lists, lambda inner: st.dictionaries(keys, inner, max_size=3), max_leaves=8)
mappings = st.dictionaries(keys, settings, max_size=3)
with_nulls = st.dictionaries(
    keys,
    st.recursive(st.none() | scalars | lists, lambda inner: st.dictionaries(keys, inner, max_size=3), max_leaves=8),
    max_size=3,
)


def nulls(value: Any) -> bool:
    return value is None or (isinstance(value, dict) and any(map(nulls, value.values())))


@given(mappings)
def test_nothing_changes_nothing(layer: dict[str, Any]) -> None:
    assert merge(layer) == merge({}, layer) == merge(layer, {}) == layer


@given(with_nulls, with_nulls)
def test_no_null_is_left(below: dict[str, Any], above: dict[str, Any]) -> None:
    assert not nulls(merge(below, above))


@given(with_nulls, with_nulls)
def test_a_repeated_message_is_printed_once(below: dict[str, Any], above: dict[str, Any]) -> None:
    assert merge(below, above, above) == merge(below, above)


@given(with_nulls, with_nulls, with_nulls)
def test_layers_are_taken_from_left_to_right(a: dict[str, Any], b: dict[str, Any], c: dict[str, Any]) -> None:
    assert merge(a, b, c) == merge(merge(a, b), c)


@given(with_nulls, with_nulls, keys)
def test_null_removes_whatever_stands_below(below: dict[str, Any], above: dict[str, Any], key: str) -> None:
    assert key not in merge(below, {**above, key: None})


@given(with_nulls, with_nulls, keys, keys)
def test_null_removes_within_a_mapping_and_leaves_the_rest(
    below: dict[str, Any], other: dict[str, Any], key: str, inner: str
) -> None:
    inside = {inner: 1, "kept": 2}
    assert merge({**below, key: inside}, {key: {inner: None}})[key] == {"kept": 2}
    assert merge({**below, key: inside}, {**other, key: {inner: None}})[key] == {"kept": 2}


@given(with_nulls, keys, lists | scalars, settings)
def test_lists_and_scalars_replace(layer: dict[str, Any], key: str, above: Any, below: Any) -> None:
    assert merge({**layer, key: below}, {key: above})[key] == above


@given(with_nulls, with_nulls)
def test_mappings_merge_key_by_key(below: dict[str, Any], above: dict[str, Any]) -> None:
    merged = merge(below, above)
    assert merged.keys() == {key for key in {**below, **above} if {**below, **above}[key] is not None}
    for key, value in merged.items():
        if key not in above:
            assert value == merge(below)[key]
        elif not isinstance(above[key], dict):
            assert value == above[key]


@given(mappings, mappings, mappings)
def test_without_removal_and_with_one_shape_the_order_of_merging_is_free(
    a: dict[str, Any], b: dict[str, Any], c: dict[str, Any]
) -> None:
    shaped = [{key: value for key, value in layer.items() if isinstance(value, dict)} for layer in (a, b, c)]
    flat = [{key: {inner: str(value[inner]) for inner in value} for key, value in layer.items()} for layer in shaped]
    assert merge(flat[0], merge(flat[1], flat[2])) == merge(merge(flat[0], flat[1]), flat[2])


def test_the_layers_are_left_as_they_were() -> None:
    below: dict[str, Any] = {"tiers": {"hot": {"level": "raid1"}}}
    above: dict[str, Any] = {"tiers": {"hot": {"level": None, "mount": "/srv"}}}
    assert merge(below, above) == {"tiers": {"hot": {"mount": "/srv"}}}
    assert below == {"tiers": {"hot": {"level": "raid1"}}}
    assert above == {"tiers": {"hot": {"level": None, "mount": "/srv"}}}
