"""What is written for TensorRT, held up to NVIDIA's own parser and compiler, neither of which needs a GPU."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from tests.support.tensorrt import NOT_HERE, ask
from tests.workloads.quantize.test_quantize import quantized

pytestmark = pytest.mark.skipif(bool(NOT_HERE), reason=NOT_HERE)


@pytest.fixture(scope="module")
def written(training: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Return the digits in the form of each target."""
    place = tmp_path_factory.mktemp("written")
    for target in ("t4", "v100-16gb", "cpu"):
        assert quantized(training, place / target, target=target) == 0
    return {path.name: path / "model.onnx" for path in place.iterdir() if not path.suffix}


def test_eight_bits_for_a_gpu_are_taken_and_compiled(written: dict[str, Path]) -> None:
    answer = ask(written["t4"], "8.0", "8.9")
    pairs = [node.op_type for node in onnx.load(written["t4"]).graph.node]

    assert (answer.errors, answer.strongly_typed) == ([], True)
    assert answer.layers["QUANTIZE INT8"] == pairs.count("QuantizeLinear") > 0
    assert answer.layers["DEQUANTIZE FLOAT"] == pairs.count("DequantizeLinear") > 0
    assert [type(size) for size in answer.compiled.values()] == [int, int], answer.compiled


def test_half_precision_is_taken_and_compiled(written: dict[str, Path]) -> None:
    answer = ask(written["v100-16gb"], "7.5", "8.0")

    assert (answer.errors, answer.strongly_typed) == ([], True)
    assert answer.layers["CONVOLUTION HALF"] == 2
    assert "CONVOLUTION FLOAT" not in answer.layers
    assert [type(size) for size in answer.compiled.values()] == [int, int], answer.compiled


def test_the_form_for_a_cpu_is_refused(written: dict[str, Path]) -> None:
    """
    Its operators are those of ONNX Runtime alone.
    """
    assert any("Plugin not found" in error for error in ask(written["cpu"]).errors)


@pytest.mark.parametrize(("kind", "zero"), [(np.int8, 3), (np.uint8, 128)])
def test_activations_around_another_zero_are_refused(
    written: dict[str, Path], tmp_path: Path, kind: type, zero: int
) -> None:
    model = onnx.load(written["t4"])
    points = {node.input[2] for node in model.graph.node if node.op_type == "QuantizeLinear"}
    for tensor in model.graph.initializer:
        if tensor.name in points and not tensor.dims:  # one for all: an activation's
            tensor.CopyFrom(numpy_helper.from_array(np.array(zero, kind), tensor.name))
    onnx.save(model, tmp_path / "model.onnx")

    [error] = ask(tmp_path / "model.onnx").errors
    assert "Non-zero zero point is not supported" in error


def test_half_a_file_is_refused(written: dict[str, Path], tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(written["t4"].read_bytes()[:3000])

    assert "Failed to parse the ONNX model" in ask(tmp_path / "model.onnx").errors[0]
