"""Whatever stands in whatever place of a fleet, the answer is a fleet or plain errors: nothing else is raised."""

import contextlib
import copy
import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from rackwright.errors import DeclarationError
from rackwright.fleet import load_fleet
from rackwright.fleet.source import read
from rackwright.schema import Fleet

RACK = read(Path(__file__).parents[2] / "stacks" / "rack.yaml").data
anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=5,
)


def places(value: Any, keys: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [(*keys, key) for key, _ in items] + [place for key, item in items for place in places(item, (*keys, key))]


PLACES = places(RACK)
mistakes = st.lists(st.tuples(st.sampled_from(PLACES), anything), min_size=1, max_size=3)


@given(mistakes)
def test_a_mistake_is_an_error_or_none(mistakes: list[tuple[tuple[Any, ...], Any]]) -> None:
    fleet = copy.deepcopy(RACK)
    for keys, value in mistakes:
        part = fleet
        with contextlib.suppress(LookupError, TypeError):  # an earlier mistake stands in the way
            for key in keys[:-1]:
                part = part[key]
            part[keys[-1]] = value
    with TemporaryDirectory() as directory:
        path = Path(directory, "fleet.yaml")
        path.write_text(json.dumps(fleet, ensure_ascii=False), encoding="utf-8")
        try:
            assert isinstance(load_fleet(path, {}), Fleet)
        except DeclarationError as refused:
            assert all(error.where.startswith(f"{path}:") for error in refused.diagnostics)
