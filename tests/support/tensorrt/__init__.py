"""NVIDIA's own parser and compiler, without a GPU: TensorRT for RTX says whether it takes a model of ours."""

import json
import platform
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from rackwright.toolchain import workloads

LOCK = Path(__file__).with_name("packages.txt")
INSIDE = Path(__file__).with_name("inside.py")
NOT_HERE = "" if platform.machine() == "x86_64" else f"there is no TensorRT for RTX for {platform.machine()}"


@dataclass(frozen=True)
class Told:
    """What it says of one model."""

    version: str
    strongly_typed: bool
    errors: list[str]
    """Of the parser; empty where it takes the model."""
    layers: dict[str, int]
    """How many there are of each kind and type of output, as ``QUANTIZE INT8``."""
    compiled: dict[str, int | str]
    """By architecture, the bytes of what it has compiled, or why it did not."""


def environment() -> workloads.WorkloadsEnvironment:
    """Return the environment that has it, fetched first if need be."""
    return workloads.ensure_lock("parser", LOCK, "96 MB to fetch, 258 MB on the drive", _say)


def ask(model: Path, *architectures: str) -> Told:
    """Return what TensorRT for RTX says of the ONNX file *model*.

    Args:
        architectures: Those to compile it for, as ``8.6``: it has 7.5, 8.0, 8.6, 8.9, 12.0 and 12.1.
    """
    argv = [str(environment().python), str(INSIDE), str(model), *architectures]
    path = {"PYTHONPATH": str(INSIDE.parents[3])}
    done = subprocess.run(argv, env=path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, f"it ended with {done.returncode}: {done.stderr}"
    return Told(**json.loads(done.stdout))


def _say(text: str) -> None:
    print(text, file=sys.stderr)
