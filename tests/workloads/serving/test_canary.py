"""The check of labelled rows before a server starts."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from workloads.errors import UserError
from workloads.serving.canary import measure


class Echo:
    """A model whose scores are its inputs."""

    description = "echo"
    model = SimpleNamespace(
        name="echo",
        inputs=(SimpleNamespace(name="x", datatype="FP32"),),
        outputs=(SimpleNamespace(name="scores", datatype="FP32"),),
    )

    def infer(self, inputs):
        assert len(inputs["x"]) <= 2
        return {"scores": inputs["x"]}


def rows(path: Path, labels: list[int]) -> Path:
    np.savez(path, x=np.eye(3), labels=np.array(labels))
    return path


@pytest.mark.parametrize(("labels", "share"), [([0, 1, 2], 1), ([0, 1, 0], 2 / 3), ([1, 2, 0], 0)])
def test_the_share_of_right_answers(tmp_path, labels, share):
    assert measure(Echo(), rows(tmp_path / "rows.npz", labels), max_batch=2) == pytest.approx(share)


def test_rows_of_another_model_are_refused(tmp_path):
    np.savez(tmp_path / "rows.npz", y=np.eye(3), labels=np.arange(3))
    with pytest.raises(UserError, match="has no x"):
        measure(Echo(), tmp_path / "rows.npz", max_batch=2)
