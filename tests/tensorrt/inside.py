"""What TensorRT says of a model, asked in a process of its own: its libraries may take a process along.

python inside.py MODEL.onnx [ARCHITECTURE…]     prints it as JSON
"""

import json
import sys
from collections import Counter
from typing import Any

import tensorrt_rtx_bindings as tensorrt

WORKSPACE_BYTES = 1 << 28


class Log(tensorrt.ILogger):
    """Keeps errors instead of printing them."""

    def __init__(self) -> None:
        tensorrt.ILogger.__init__(self)
        self.errors: list[str] = []

    def log(self, severity: Any, text: str) -> None:
        if severity <= tensorrt.ILogger.ERROR:
            self.errors.append(text)


def told(path: str, architectures: list[str]) -> dict[str, Any]:
    log = Log()
    builder = tensorrt.Builder(log)
    network = builder.create_network(0)
    parser = tensorrt.OnnxParser(network, log)
    whole = parser.parse_from_file(path)
    layers = [network.get_layer(number) for number in range(network.num_layers)]
    return {
        "version": tensorrt.__version__,
        "strongly_typed": network.get_flag(tensorrt.NetworkDefinitionCreationFlag.STRONGLY_TYPED),
        "errors": [parser.get_error(number).desc() for number in range(parser.num_errors)],
        "layers": Counter(f"{layer.type.name} {layer.get_output(0).dtype.name}" for layer in layers),
        "compiled": {name: _compiled(builder, network, name, log) for name in architectures} if whole else {},
    }


def _compiled(builder: Any, network: Any, architecture: str, log: Log) -> int | str:
    """Return how many bytes the engine for *architecture* has, or why there is none."""
    config = builder.create_builder_config()
    config.set_memory_pool_limit(tensorrt.MemoryPoolType.WORKSPACE, WORKSPACE_BYTES)
    config.num_compute_capabilities = 1
    config.set_compute_capability(tensorrt.ComputeCapability.__members__[architecture], 0)
    profile = builder.create_optimization_profile()
    for number in range(network.num_inputs):
        taken = network.get_input(number)
        shapes = ((rows, *tuple(taken.shape)[1:]) for rows in (1, 32, 64))
        profile.set_shape(taken.name, *shapes)
    config.add_optimization_profile(profile)
    log.errors.clear()
    engine = builder.build_serialized_network(network, config)
    return "; ".join(log.errors) if engine is None else int(engine.nbytes)


if __name__ == "__main__":
    print(json.dumps(told(sys.argv[1], sys.argv[2:])))
