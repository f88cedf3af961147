"""A model that is made in a moment: the class of a row is the larger of its two numbers; with rows that tell.

$(rackwright toolchain workloads) -m tests.support.models.tiny DIRECTORY
"""

import sys
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper

from tests.support.models import FIRST, ROWS, SECOND
from workloads.serving.model import Tensor, publish


def make(directory: Path) -> None:
    """Write two versions of it, and the rows, below *directory*."""
    directory.mkdir(parents=True, exist_ok=True)
    for name, factor in ((FIRST, 1.0), (SECOND, 2.0)):
        _save(directory / f"{name}.onnx", factor)
        tensor = Tensor(name="x", datatype="FP32", shape=(-1, 2))
        publish(
            directory / name, {"model.onnx": directory / f"{name}.onnx"}, "digits", (tensor,),
            (tensor.model_copy(update={"name": "y"}),), {"gate": {"found": {"accuracy_kept": 1.0}}},
        )  # fmt: skip
    rows = np.array([[0, 1], [1, 0], [2, 3], [3, 2]], np.float32)
    np.savez(directory / ROWS, x=rows, labels=rows.argmax(1))


def _save(path: Path, factor: float) -> None:
    inputs, outputs = (helper.make_tensor_value_info(name, TensorProto.FLOAT, ["rows", 2]) for name in "xy")
    by = helper.make_tensor("by", TensorProto.FLOAT, [1], [factor])
    graph = helper.make_graph([helper.make_node("Mul", ["x", "by"], ["y"])], "tiny", [inputs], [outputs], [by])
    opsets = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=9), str(path))


if __name__ == "__main__":
    make(Path(sys.argv[1]))
