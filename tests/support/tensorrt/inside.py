"""What TensorRT for RTX says of a model, asked in a process of its own: its libraries may take a process along.

PYTHONPATH=. python tests/support/tensorrt/inside.py MODEL.onnx [ARCHITECTURE…]     prints it as JSON
"""

import json
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import tensorrt_rtx_bindings as tensorrt

from workloads.quantize import inside_tensorrt

ROWS = (1, 32, 64)


def describe_model(path: str, architectures: list[str]) -> dict[str, Any]:
    log = tensorrt.Logger(tensorrt.Logger.INTERNAL_ERROR)
    network = tensorrt.Builder(log).create_network(0)
    parser = tensorrt.OnnxParser(network, log)
    whole = parser.parse_from_file(path)
    layers = [network.get_layer(number) for number in range(network.num_layers)]
    inputs = [network.get_input(number) for number in range(network.num_inputs)]
    shapes = {each.name: [(rows, *tuple(each.shape)[1:]) for rows in ROWS] for each in inputs}
    return {
        "version": tensorrt.__version__,
        "strongly_typed": network.get_flag(tensorrt.NetworkDefinitionCreationFlag.STRONGLY_TYPED),
        "errors": [parser.get_error(number).desc() for number in range(parser.num_errors)],
        "layers": Counter(f"{layer.type.name} {layer.get_output(0).dtype.name}" for layer in layers),
        "compiled": {name: _compile(path, shapes, name) for name in architectures} if whole else {},
    }


def _compile(path: str, shapes: dict[str, Any], architecture: str) -> int | str:
    """Return how many bytes the engine for *architecture* has, or why there is none."""
    with tempfile.TemporaryDirectory() as directory:
        engine = Path(directory) / "engine"
        order = {"library": tensorrt.__name__, "model": path, "out": str(engine), "architecture": architecture}
        builder = {"workspace_bytes": 1 << 28, "builder_level": 3, "timing_cache": ""}
        made = inside_tensorrt.build({**order, **builder, "shapes": shapes})
        return "; ".join(made["errors"]) if "errors" in made else engine.stat().st_size


if __name__ == "__main__":
    print(json.dumps(describe_model(sys.argv[1], sys.argv[2:])))
