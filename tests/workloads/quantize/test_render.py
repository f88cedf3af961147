"""One set of ranges, in the form of whoever computes; on a small model with weights of a seed."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from workloads.quantize.config import QuantizeSettings
from workloads.quantize.render import Renderer, fuse, layers, preprocess
from workloads.quantize.samples import Samples
from workloads.quantize.score import outputs

LAYERS = ["Conv_0", "Gemm_3"]


def small(path: Path) -> Path:
    """Write a model of a convolution and a matrix, whose nodes have no names."""
    random = np.random.default_rng(0)
    weights = {
        "conv": random.normal(0, 0.3, (8, 1, 3, 3)),
        "conv_bias": random.normal(0, 0.1, 8),
        "head": random.normal(0, 0.1, (8 * 16, 5)),
        "head_bias": random.normal(0, 0.1, 5),
    }
    nodes = [
        helper.make_node("Conv", ["x", "conv", "conv_bias"], ["a"], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("Flatten", ["b"], ["c"]),
        helper.make_node("Gemm", ["c", "head", "head_bias"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes, "small",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 1, 4, 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 5])],
        [numpy_helper.from_array(array.astype(np.float32), name) for name, array in weights.items()],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, path)
    return path


def rows(count: int, seed: int) -> Samples:
    return Samples({"x": np.random.default_rng(seed).normal(0, 1, (count, 1, 4, 4)).astype(np.float32)}, None)


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return preprocess(small(tmp_path / "small.onnx"), tmp_path)


def renderer(base: Path, scratch: Path, samples: Samples | None = None, **settings: object) -> Renderer:
    scratch.mkdir(exist_ok=True)
    return Renderer(base, samples or rows(32, 1), QuantizeSettings.model_validate(settings), scratch)


def read_graph(path: Path) -> tuple[onnx.GraphProto, dict[str, np.ndarray]]:
    graph = onnx.load(path).graph
    return graph, {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}


def zero_points(path: Path) -> set[tuple[str, int]]:
    graph, arrays = read_graph(path)
    points = [arrays[node.input[2]] for node in graph.node if node.op_type == "QuantizeLinear"]
    return {(array.dtype.name, int(value)) for array in points for value in array.ravel()}


def range_of(path: Path, tensor: str) -> tuple[float, float]:
    """Return the lowest and the highest that 8 bits can say of *tensor*."""
    arrays = read_graph(path)[1]
    [scale] = [array for name, array in arrays.items() if name.startswith(f"{tensor}_scale")]
    [zero] = [array for name, array in arrays.items() if name.startswith(f"{tensor}_zero_point")]
    limits = np.iinfo(zero.dtype)
    return float((limits.min - int(zero)) * scale), float((limits.max - int(zero)) * scale)


def test_nodes_without_names_get_some(base: Path) -> None:
    assert layers(base) == LAYERS


def test_a_gpu_and_a_cpu_get_the_same_ranges_in_their_own_form(base: Path, tmp_path: Path) -> None:
    both = renderer(base, tmp_path / "scratch")
    cpu, gpu = both.int8(LAYERS, signed=False), both.int8(LAYERS, signed=True)

    assert zero_points(gpu) == {("int8", 0)}
    assert {name for name, _ in zero_points(cpu)} == {"uint8"}
    for tensor in ("x", "c"):
        lowest, highest = range_of(cpu, tensor)
        assert range_of(gpu, tensor)[1] == pytest.approx(max(-lowest, highest), rel=0.01)
    types = [{array.dtype.name for array in read_graph(path)[1].values()} for path in (cpu, gpu)]
    assert "int32" in types[0]
    assert "int32" not in types[1], "TensorRT takes biases in float"
    for path in (cpu, gpu):
        assert read_graph(path)[1]["conv_quantized"].dtype == np.int8, "weights are stored in 8 bits"


def test_what_comes_out_of_a_relu_begins_at_0_on_a_cpu(base: Path, tmp_path: Path) -> None:
    """
    Around 128 half of the steps would be for numbers that never come, and the Relu would stay in floats.
    """
    assert range_of(renderer(base, tmp_path / "scratch").int8(LAYERS, signed=False), "c")[0] == 0


def test_both_answer_nearly_as_the_original(base: Path, tmp_path: Path) -> None:
    both, judge = renderer(base, tmp_path / "scratch"), rows(64, 2)
    before = outputs(base, judge, 1)
    for signed in (False, True):
        error = outputs(both.int8(LAYERS, signed), judge, 1, fused=not signed) - before
        assert 0 < error.std() < 0.03 * before.std()


def test_on_a_cpu_it_is_published_as_it_is_computed(base: Path, tmp_path: Path) -> None:
    """
    What a server would make of it at each start is made of it once, and answers the same.
    """
    made = renderer(base, tmp_path / "scratch").int8(LAYERS, signed=False)
    path, judge = fuse(made, tmp_path / "scratch"), rows(64, 2)

    assert {"QLinearConv", "QGemm"} <= {node.op_type for node in onnx.load(path).graph.node}
    np.testing.assert_array_equal(outputs(path, judge, 1), outputs(made, judge, 1))


def test_only_the_layers_that_are_named_are_quantised(base: Path, tmp_path: Path) -> None:
    path = renderer(base, tmp_path / "scratch").int8(["Gemm_3"], signed=False)
    _, arrays = read_graph(path)
    assert arrays["conv"].dtype == np.float32
    assert "head" not in arrays
    assert arrays["head_quantized"].dtype == np.int8


@pytest.mark.parametrize("changes", [{"calibration": "percentile", "percentile": 99.0}, {"calibration": "entropy"}])
def test_other_ways_to_calibrate_cut_what_is_rare_off(base: Path, tmp_path: Path, changes: dict[str, object]) -> None:
    outlier = rows(32, 1)
    outlier.inputs["x"][0, 0, 0, 0] = 50
    whole = renderer(base, tmp_path / "one", outlier).int8(LAYERS, signed=False)
    cut = renderer(base, tmp_path / "other", outlier, **changes).int8(LAYERS, signed=False)
    assert range_of(whole, "x")[1] == pytest.approx(50, rel=0.01)
    assert range_of(cut, "x")[1] < 25


def test_half_precision_is_half_of_it(base: Path, tmp_path: Path) -> None:
    path = renderer(base, tmp_path / "scratch").fp16()
    graph, arrays = read_graph(path)
    assert {array.dtype.name for array in arrays.values()} == {"float16"}
    assert graph.input[0].type.tensor_type.elem_type == TensorProto.FLOAT
    judge = rows(16, 3)
    np.testing.assert_allclose(outputs(path, judge, 1), outputs(base, judge, 1), atol=0.02)
