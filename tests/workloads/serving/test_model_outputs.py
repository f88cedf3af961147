"""The outputs of a model for inputs that follow from its metadata alone."""

import json

import numpy as np
import pytest

from workloads.serving import model_outputs
from workloads.serving.model import Tensor


def test_inputs_have_the_declared_shapes_and_are_always_the_same():
    tensors = (
        Tensor(name="x", datatype="FP32", shape=(-1, 3)),
        Tensor(name="ids", datatype="INT64", shape=(-1, -1)),
        Tensor(name="scale", datatype="FP16", shape=(2,)),
        Tensor(name="text", datatype="BYTES", shape=(-1, 1)),
    )
    first, second = model_outputs.inputs_for(tensors), model_outputs.inputs_for(tensors)

    found = {name: (values.dtype.str, values.shape) for name, values in first.items()}
    assert found == {"x": ("<f4", (4, 3)), "ids": ("<i8", (4, 8)), "scale": ("<f2", (2,)), "text": ("|O", (4, 1))}
    assert all(np.array_equal(first[name], second[name]) for name in first)
    assert first["x"].ravel()[0] == pytest.approx(0.5488135)  # of NumPy's RandomState(0), on every computer


def test_a_published_model_prints_the_same_outputs_twice(digits, capsys):
    printed = []
    for _ in range(2):
        assert model_outputs.main([str(digits)]) == 0
        printed.append(json.loads(capsys.readouterr().out))

    assert printed[0] == printed[1]
    assert [len(values) for values in printed[0]["outputs"].values()] == [4 * 10]


def test_a_damaged_model_has_status_1(digits, tmp_path, capsys):
    for path in digits.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / "model.onnx").write_bytes(b"no model")

    assert model_outputs.main([str(tmp_path)]) == 1
    assert "model.onnx has 8 bytes" in capsys.readouterr().err
