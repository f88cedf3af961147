"""What travels through Pulumi's state comes back as it was."""

import pytest
from google.protobuf.struct_pb2 import Struct
from hypothesis import given
from hypothesis import strategies as st

from rackwright.core import wire
from rackwright.core.contract import Absent, Between, Claim, OneOf, UnknownValue, Within
from rackwright.core.diff import diff
from rackwright.provider import codec

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
# a whole number that was a float cannot be distinguished from an integer, and no claim needs one
scalars = st.one_of(
    texts,
    st.booleans(),
    st.integers(-(2**53), 2**53),
    st.floats(allow_nan=False, allow_infinity=False).filter(lambda number: not number.is_integer()),
    st.lists(texts, max_size=3).map(tuple),
)
found = st.dictionaries(
    texts, st.dictionaries(texts, st.one_of(scalars, st.just(Absent()), st.builds(UnknownValue, texts)))
)


def through_the_engine(plain):
    """Return *plain* after a way over gRPC."""
    return codec.decode(Struct.FromString(codec.encode(plain).SerializeToString()))


@given(found)
def test_what_was_found_comes_back(found):
    back = wire.decode_observation(through_the_engine(wire.encode_observation(found)))

    assert back == found
    assert [{name: type(value) for name, value in seen.items()} for _, seen in sorted(back.items())] == [
        {name: type(seen[name]) for name in sorted(seen)} for _, seen in sorted(found.items())
    ]


@given(st.dictionaries(texts, st.dictionaries(texts, scalars, min_size=1)))
def test_what_holds_still_holds_afterwards(things):
    """
    A claim compared with a state is a claim compared with the facts.
    """
    claims = [Claim(thing, want) for thing, want in things.items()]

    assert diff(claims, wire.decode_observation(through_the_engine(wire.encode_observation(things)))) == ()


def test_numbers_and_orders_are_restored():
    """
    gRPC makes 5000 a float and mixes the keys.
    """
    assert wire.normalise({"b": 5000.0, "a": [1.0, {"d": 0.5, "c": (True, None)}]}) == {
        "a": [1, {"c": [True, None], "d": 0.5}],
        "b": 5000,
    }
    assert list(wire.normalise({"b": 1, "a": 2})) == ["a", "b"]


def test_claims_stand_under_their_things():
    """
    Two claims about one thing are one entry, sorted, so that equal claims are equal texts.
    """
    claims = [Claim("b", {"y": "1", "x": 2}), Claim("a", {"z": True}), Claim("b", {"w": ("p",)})]

    encoded = wire.encode_claims(claims)

    assert encoded == {"a": {"z": True}, "b": {"w": ["p"], "x": 2, "y": "1"}}
    assert [*encoded, *encoded["b"]] == ["a", "b", "w", "x", "y"]


@pytest.mark.parametrize(
    ("value", "plain"),
    [
        (Between(1, 2), {"at_least": 1, "at_most": 2}),
        (Between(low=1), {"at_least": 1}),
        (OneOf((("a", "b"), "c")), {"one_of": [["a", "b"], "c"]}),
        (Within(("a",)), {"within": ["a"]}),
        (Absent(), {"absent": True}),
        (UnknownValue("why"), {"unknown": "why"}),
    ],
    ids=repr,
)
def test_what_is_no_scalar_says_what_it_is(value, plain):
    assert wire.encode(value) == plain


def test_a_state_that_cannot_be_read_is_unknown():
    """
    Neither as claimed nor absent.
    """
    assert isinstance(wire.decode_observation({"a": {"b": {"at_least": 1}}})["a"]["b"], UnknownValue)
