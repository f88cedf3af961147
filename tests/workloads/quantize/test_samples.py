"""Three sets without a row in common, fixed by a hash before anything is tried."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workloads.errors import UserError
from workloads.quantize.samples import Samples, Sets, load, split
from workloads.quantize.source import SourceModel
from workloads.serving.model import Tensor

SOURCE = SourceModel(
    Path("m.onnx"), "m", (Tensor(name="x", datatype="FP32", shape=(-1, 2)),),
    (Tensor(name="y", datatype="FP32", shape=(-1, 3)),), {},
)  # fmt: skip


def samples(rows: list[int], labels: list[int] | None = None) -> Samples:
    return Samples(
        {"x": np.array(rows, np.float32).reshape(-1, 1)}, np.array(rows if labels is None else labels, np.int64)
    )


def contents(sets: Sets) -> list[set[str]]:
    return [set(part.digests()) for part in (sets.calibration, sets.search, sets.held_out)]


rows = st.lists(st.integers(0, 40), min_size=1, max_size=80)  # few values, so that rows come twice


@settings(max_examples=200, deadline=None)
@given(rows, st.data())
def test_no_row_is_in_two_sets(values: list[int], data: st.DataObject) -> None:
    flags = st.lists(st.booleans(), min_size=len(values), max_size=len(values))
    groups = st.lists(st.integers(0, 5), min_size=len(values), max_size=len(values))
    group = data.draw(st.none() | groups.map(np.array))
    trained_on = data.draw(st.none() | flags.map(np.array))

    calibration, search, held_out = contents(split(samples(values), group, trained_on))

    assert not calibration & search
    assert not calibration & held_out
    assert not search & held_out


@settings(max_examples=100, deadline=None)
@given(rows, rows, st.randoms(use_true_random=False))
def test_a_row_is_where_it_is_whatever_else_is_there(values: list[int], more: list[int], random: object) -> None:
    """So rows that judge once are never calibrated with later, when there is more data, or in another order."""
    together = [*values, *more]
    random.shuffle(together)  # type: ignore[attr-defined]
    alone, all_of_them = contents(split(samples(values))), contents(split(samples(together)))
    assert all(few <= many for few, many in zip(alone, all_of_them, strict=True))


def test_what_was_trained_on_never_judges() -> None:
    values = list(range(100)) * 2
    trained_on = np.arange(200) < 60  # 0 to 59 first as trained on, and later once more as not
    sets = split(samples(values), None, trained_on)
    assert set(sets.held_out.labels.tolist()) == set(range(60, 100))  # type: ignore[union-attr]
    assert len(sets.calibration) + len(sets.search) == 60
    assert 15 < len(sets.calibration) < 45


def test_a_group_stays_together() -> None:
    group = np.arange(100) // 2
    sets = split(samples(list(range(100))), group)
    for part in (sets.calibration, sets.search, sets.held_out):
        held = {int(label) // 2 for label in part.labels}  # type: ignore[union-attr]
        assert len(part) == 2 * len(held)
    assert len(sets.held_out) > 20


def test_about_half_judge() -> None:
    sizes = [
        len(part)
        for part in (split(samples(list(range(2000)))).calibration, split(samples(list(range(2000)))).held_out)
    ]
    assert 400 < sizes[0] < 600
    assert 900 < sizes[1] < 1100


def test_a_file_is_read_and_its_calibration_limited(tmp_path: Path) -> None:
    np.savez(tmp_path / "rows.npz", x=np.arange(200.0).reshape(100, 2), labels=np.arange(100))
    sets = load(str(tmp_path / "rows.npz"), SOURCE, 9)
    assert len(sets.calibration) == 9
    assert sets.held_out.inputs["x"].dtype == np.float32


@pytest.mark.parametrize(
    ("arrays", "expected"),
    [
        ({}, "the data does not fit m: x is missing; arrays for x. Correct the file."),
        ({"x": np.zeros((9, 2)), "z": np.zeros(9)}, "z is not an input; arrays for x"),
        ({"x": np.zeros((9, 3))}, "x has the shape [9, 3], not [-1, 2]; arrays for x"),
        ({"x": np.zeros((9, 2)), "labels": np.zeros(8)}, "its arrays have different numbers of rows; arrays for x"),
        ({"x": np.zeros((90, 2))}, "of its 90 rows, fewer than 8 are for"),
    ],
)
def test_what_does_not_fit_is_reported(tmp_path: Path, arrays: dict[str, np.ndarray], expected: str) -> None:
    np.savez(tmp_path / "rows.npz", **arrays)
    with pytest.raises(UserError) as wrong:
        load(str(tmp_path / "rows.npz"), SOURCE, 256)
    assert expected in str(wrong.value)


@pytest.mark.parametrize("content", [None, b"x", b""])
def test_what_is_no_file_of_arrays_is_reported(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "rows.npz"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError, match="a file that numpy.savez wrote, or one of the words digits and training"):
        load(str(path), SOURCE, 256)


def test_a_file_that_would_run_code_is_not_read(tmp_path: Path) -> None:
    np.savez(tmp_path / "rows.npz", x=np.array([{"a": 1}] * 9, dtype=object))
    with pytest.raises(UserError, match="allow_pickle"):
        load(str(tmp_path / "rows.npz"), SOURCE, 256)
