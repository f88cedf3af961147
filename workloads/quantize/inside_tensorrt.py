"""What builds an engine, in a process of its own: TensorRT may take the process along where it meets the unexpected.

    python -m workloads.quantize.inside_tensorrt < order.json      as `engine` gives it; the answer is JSON, too

It imports TensorRT and the standard library alone.
"""

import importlib
import json
import sys
from pathlib import Path
from typing import Any


def build(order: dict[str, Any]) -> dict[str, Any]:
    """Write the engine to ``order["out"]`` and return TensorRT's ``version``, or ``errors`` where there is none."""
    tensorrt = importlib.import_module(order["library"])
    log = _log(tensorrt)
    builder = tensorrt.Builder(log)
    network = builder.create_network(0)
    parser = tensorrt.OnnxParser(network, log)
    if not parser.parse_from_file(order["model"]):
        return {"errors": [parser.get_error(number).desc() for number in range(parser.num_errors)]}
    config = builder.create_builder_config()
    config.set_memory_pool_limit(tensorrt.MemoryPoolType.WORKSPACE, order["workspace_bytes"])
    if order["architecture"]:
        if not hasattr(tensorrt, "ComputeCapability"):
            return {"errors": [f"{order['library']} compiles for the GPU of this computer alone"]}
        wanted = "SM" + order["architecture"].replace(".", "")
        if wanted not in tensorrt.ComputeCapability.__members__:
            return {"errors": [f"{order['library']} {tensorrt.__version__} has no {wanted}"]}
        config.num_compute_capabilities = 1
        config.set_compute_capability(tensorrt.ComputeCapability.__members__[wanted], 0)
    profile = builder.create_optimization_profile()
    for name, shapes in order["shapes"].items():
        profile.set_shape(name, *map(tuple, shapes))
    config.add_optimization_profile(profile)
    engine = builder.build_serialized_network(network, config)
    if engine is None:
        return {"errors": log.errors}
    Path(order["out"]).write_bytes(engine)
    return {"version": tensorrt.__version__}


def _log(tensorrt: Any) -> Any:
    class Log(tensorrt.ILogger):
        """Keeps errors instead of printing them."""

        def __init__(self) -> None:
            tensorrt.ILogger.__init__(self)
            self.errors: list[str] = []

        def log(self, severity: Any, text: str) -> None:
            if severity <= tensorrt.ILogger.ERROR:
                self.errors.append(text)

    return Log()


if __name__ == "__main__":
    print(json.dumps(build(json.load(sys.stdin))))
