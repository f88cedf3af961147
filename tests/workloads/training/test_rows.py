"""Rows of a file as data: who judges follows from each row's content, and what does not fit is refused at once."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.support.training_runs import config
from workloads.errors import UserError
from workloads.training.config import Rows
from workloads.training.data import held_out, load
from workloads.training.run import train


def written(path: Path, rows: int = 200, **arrays: Any) -> Path:
    """Write random rows, or other *arrays* in their place."""
    random = np.random.default_rng(0)
    content = {"x": random.random((rows, 8, 8), np.float32), "labels": random.integers(0, 10, rows), **arrays}
    np.savez(path, **{name: array for name, array in content.items() if array is not None})
    return path


def contents(examples: Any) -> set[bytes]:
    return {row.numpy().tobytes() for row in examples.x}


def test_a_row_is_where_it_is_whatever_else_is_there(tmp_path: Path) -> None:
    many = np.random.default_rng(1).random((500, 8, 8), np.float32)
    labels = np.zeros(500, int)
    some = Rows(path=str(written(tmp_path / "some.npz", x=many[:300], labels=labels[:300])))
    all_ = Rows(path=str(written(tmp_path / "all.npz", x=many[::-1], labels=labels)))

    assert contents(load(some)) <= contents(load(all_))
    assert contents(held_out(some)) <= contents(held_out(all_))
    assert 50 < len(held_out(all_)) < 150, "a fifth"
    assert len(load(all_)) + len(held_out(all_)) == 500


def test_what_is_learned_never_judges(tmp_path: Path) -> None:
    """A row of two groups may fall on both sides."""
    x = np.repeat(np.arange(50, dtype=np.float32), 4)[:, None, None] * np.ones((8, 8), np.float32)
    path = written(tmp_path / "rows.npz", x=x, labels=np.zeros(200, int), group=np.arange(200))
    data = Rows(path=str(path), held_out=0.5)

    assert not contents(load(data)) & contents(held_out(data))
    assert len(held_out(data)) >= 1


def test_a_group_stays_together(tmp_path: Path) -> None:
    labels = np.arange(200) // 20
    data = Rows(path=str(written(tmp_path / "rows.npz", labels=labels, group=labels)), held_out=0.5)

    learned, judging = ({*examples.y.tolist()} for examples in (load(data), held_out(data)))
    assert learned and judging and not learned & judging


@pytest.mark.parametrize(
    ("arrays", "expected"),
    [
        ({"x": None}, "x is missing"),
        ({"labels": None}, "labels is missing"),
        ({"more": np.zeros(200)}, "more is not one of these arrays"),
        ({"labels": np.zeros(200)}, "labels is float64 with shape [200]"),
        ({"x": np.zeros((200, 64), np.float32)}, "x is float32 with shape [200, 64]"),
        ({"labels": np.zeros(9, int)}, "the arrays have different numbers of rows"),
        ({"group": np.zeros(9, int)}, "the arrays have different numbers of rows"),
        ({"x": np.full((200, 8, 8), np.nan)}, "x has values that are not finite numbers"),
        ({"x": np.zeros((200, 9, 9), np.float32)}, "images of (9, 9)"),
        ({"labels": np.full(200, 10)}, "labels from 10 to 10"),
        ({"labels": np.full(200, -1)}, "labels from -1 to -1"),
        ({"x": np.zeros((0, 8, 8), np.float32), "labels": np.zeros(0, int)}, "at most 0 examples"),
    ],
)
def test_rows_that_do_not_fit_are_refused_before_the_first_step(
    tmp_path: Path, arrays: dict[str, Any], expected: str
) -> None:
    path = written(tmp_path / "rows.npz", **arrays)
    with pytest.raises(UserError) as error:
        train(config("digits", f'data={{"kind": "rows", "path": "{path}"}}'), tmp_path / "out", {})
    assert expected in str(error.value)
    assert not (tmp_path / "out" / "metrics.jsonl").exists()


def test_a_file_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="data.path: .*none.npz cannot be read: .*; a file that numpy.savez wrote"):
        load(Rows(path=str(tmp_path / "none.npz")))


def test_a_model_learns_from_rows(tmp_path: Path) -> None:
    """Each class is an image of its own, so that a few steps tell them apart."""
    labels = np.arange(400) % 10
    x = np.random.default_rng(0).random((400, 8, 8), np.float32) / 10
    x[np.arange(400), labels % 8, labels // 8 * 4] += 1
    path = written(tmp_path / "rows.npz", x=x, labels=labels)
    changes = (f'data={{"kind": "rows", "path": "{path}"}}', "steps=60", "schedule.kind=constant")
    assert train(config("digits", *changes, "global_batch=32", "optimizer.learning_rate=0.01"), tmp_path / "out", {})

    last = (tmp_path / "out" / "metrics.jsonl").read_text().splitlines()[-1]
    assert '"held_out_accuracy": 1.0' in last
