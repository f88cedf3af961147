"""Stand-ins for NVIDIA's driver and for TensorRT, so that the programs for engines run on a processor."""

import shutil
import subprocess
from pathlib import Path

DIRECTORY = Path(__file__).parent
"""Directory for PYTHONPATH, where ``import tensorrt`` finds the stand-in."""


def compile_driver(directory: Path) -> Path:
    """Return the stand-in for ``libcuda.so.1``, compiled into *directory*."""
    target, compiler = directory / "libcuda.so.1", shutil.which("cc")
    assert compiler, "the program cc is missing"
    argv = [compiler, "-std=c99", "-O1", "-Wall", "-Werror", "-fPIC", "-shared", "-o", str(target)]
    subprocess.run([*argv, str(DIRECTORY / "cuda.c")], check=True)
    return target
