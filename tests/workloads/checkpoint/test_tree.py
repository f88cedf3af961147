"""A state comes back as it was, or is refused by the place of what cannot."""

from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workloads.checkpoint import BadState
from workloads.checkpoint.tree import flatten_state, restore_state

PLAIN = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()
TREES = st.recursive(
    PLAIN,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.lists(inner, max_size=3).map(tuple)
        | st.dictionaries(st.text() | st.integers(), inner, max_size=3)
    ),
    max_leaves=20,
)


@given(st.dictionaries(st.text() | st.integers(), TREES, max_size=4))
def test_plain_values_come_back_as_what_they_were(state):
    text, tensors = flatten_state(state)

    assert repr(restore_state(text, lambda: tensors)) == repr(state)


@pytest.mark.parametrize(
    ("state", "where", "got"),
    [
        ({"optimizer": {"state": [1, {3, 4}]}}, "state/optimizer/state/1", "a checkpoint cannot store a set"),
        ({"a": date(2026, 1, 1)}, "state/a", "a checkpoint cannot store a date"),
        ({"a": {1.5: 0}}, "state/a", "1.5 cannot be a key"),
        ({"a": {True: 0}}, "state/a", "True cannot be a key"),
        ({"a": b"bytes"}, "state/a", "a checkpoint cannot store a bytes"),
    ],
)
def test_what_cannot_be_kept_is_named(state, where, got):
    with pytest.raises(BadState) as caught:
        flatten_state(state)

    assert str(caught.value).startswith(f"{where}: {got}")
