"""Recorded data: one form for all files, variants that give back what they were made of, and a bound for all lines."""

import copy
import json

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tests.support import recordings

LINES = 6_000
values = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.sampled_from(("a", "b")),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(("name", "serial", "x", "y")), inner, max_size=4)
        | st.lists(st.fixed_dictionaries({"name": st.sampled_from("abcd"), "x": inner}), max_size=3)
    ),
    max_leaves=12,
)


@pytest.mark.parametrize("path", recordings.paths(), ids=lambda path: f"{path.parent.parent.name}/{path.name}")
def test_a_file_is_as_the_command_writes_it(path, tmp_path) -> None:
    of = recordings.origin(path)
    if of is not None:
        (tmp_path / f"{of}.json").write_bytes(path.with_name(f"{of}.json").read_bytes())
    recordings.write(tmp_path / path.name, recordings.read(path), of)
    written = (tmp_path / path.name).read_text()
    assert written == path.read_text(), "run python -m tests.support.recordings"


def test_recorded_data_fits() -> None:
    assert sum(len(path.read_text().splitlines()) for path in recordings.paths()) <= LINES


@given(old=values, new=values)
@example(old=[{"name": []}], new=[{"name": []}])
@example(old=[{"name": 1, "x": 1}, {"name": "a"}], new=[{"name": True, "x": 2}, {"name": "a"}])
def test_a_variant_gives_back_its_data(old, new) -> None:
    result = copy.deepcopy(old)
    for change in recordings.differences(old, new):
        result = recordings.apply(result, *json.loads(json.dumps(change)))
    assert json.dumps(result, sort_keys=True) == json.dumps(new, sort_keys=True)


def test_an_element_of_a_list_is_changed_by_its_name(tmp_path) -> None:
    old = {"drives": [{"serial": "A", "size": 1, "wear": None}, {"serial": "B", "size": 1}]}
    new = {"drives": [{"serial": "A", "size": 1, "wear": None}, {"serial": "B", "size": 2, "new": []}]}
    recordings.write(tmp_path / "old.json", old)
    recordings.write(tmp_path / "new.json", new, "old")
    assert json.loads((tmp_path / "new.json").read_text())["changes"] == [
        [["drives", {"serial": "B"}, "new"], []],
        [["drives", {"serial": "B"}, "size"], 2],
    ]
    assert recordings.read(tmp_path / "new.json") == new
