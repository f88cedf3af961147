"""Build a TensorRT engine in a process of its own, because TensorRT may crash its process.

    python -m workloads.quantize.inside_tensorrt < request.json      a request of `engine`; the answer is JSON, too

The module imports TensorRT and the standard library alone.
"""

import importlib
import json
import sys
from pathlib import Path
from typing import Any


def build(request: dict[str, Any]) -> dict[str, Any]:
    """Write the engine to ``request["out"]``, and return TensorRT's ``version``, or ``errors`` if the build failed."""
    tensorrt = importlib.import_module(request["library"])
    log = _log(tensorrt)
    builder = tensorrt.Builder(log)
    network = builder.create_network(0)
    parser = tensorrt.OnnxParser(network, log)
    if not parser.parse_from_file(request["model"]):
        return {"errors": [parser.get_error(number).desc() for number in range(parser.num_errors)]}
    config = builder.create_builder_config()
    config.set_memory_pool_limit(tensorrt.MemoryPoolType.WORKSPACE, request["workspace_bytes"])
    config.builder_optimization_level = request["builder_level"]
    cache = Path(request["timing_cache"]) if request["timing_cache"] else None
    if cache and not _use_timing_cache(config, cache, log):
        problem = f"{cache} is no timing cache of this GPU and of {request['library']} {tensorrt.__version__}"
        return {"errors": [f"{problem}; remove it, or name another file"]}
    if request["architecture"]:
        if not hasattr(tensorrt, "ComputeCapability"):
            return {"errors": [f"{request['library']} builds only for the GPU of this computer"]}
        capability = "SM" + request["architecture"].replace(".", "")
        if capability not in tensorrt.ComputeCapability.__members__:
            return {"errors": [f"{request['library']} {tensorrt.__version__} has no {capability}"]}
        config.num_compute_capabilities = 1
        config.set_compute_capability(tensorrt.ComputeCapability.__members__[capability], 0)
    profile = builder.create_optimization_profile()
    for name, shapes in request["shapes"].items():
        profile.set_shape(name, *map(tuple, shapes))
    config.add_optimization_profile(profile)
    engine = builder.build_serialized_network(network, config)
    if engine is None:
        return {"errors": log.errors}
    Path(request["out"]).write_bytes(engine)
    if cache:
        partial = cache.with_name(f".{cache.name}.partial")
        partial.write_bytes(config.get_timing_cache().serialize())
        partial.replace(cache)
    return {"version": tensorrt.__version__}


def _use_timing_cache(config: Any, file: Path, log: Any) -> bool:
    """Give *config* the timings in *file*, or none if it does not exist; return whether TensorRT takes them."""
    before = len(log.warnings)
    cache = config.create_timing_cache(file.read_bytes() if file.exists() else b"")
    # TensorRT turns a file that it cannot read into an empty cache with a warning; the build would overwrite the file
    return cache is not None and config.set_timing_cache(cache, False) and len(log.warnings) == before


def _log(tensorrt: Any) -> Any:
    class TensorrtLog(tensorrt.ILogger):
        """A logger that collects errors and warnings instead of printing them."""

        def __init__(self) -> None:
            tensorrt.ILogger.__init__(self)
            self.errors: list[str] = []
            self.warnings: list[str] = []

        def log(self, severity: Any, text: str) -> None:
            if severity <= tensorrt.ILogger.ERROR:
                self.errors.append(text)
            elif severity == tensorrt.ILogger.WARNING:
                self.warnings.append(text)

    return TensorrtLog()


if __name__ == "__main__":
    print(json.dumps(build(json.load(sys.stdin))))
