"""Three models of the digits: the first, one in 8 bits, and one that says it is good and is wrong; rows that tell.

$(rackwright toolchain workloads) -m tests.support.models.models DIRECTORY
"""

import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
from onnx import helper

from tests.support.models import FIRST, ROWS, SECOND, WRONG
from tests.support.training_runs import ROOT, environment
from workloads.serving.model import publish, read
from workloads.training.config import Digits
from workloads.training.data import held_out


def make(directory: Path) -> None:
    """Train the digits, and write all of it below *directory*."""
    _run("workloads.training", "digits", "--out", str(directory / "training"), "--set", "steps=100")
    for name, precision in ((FIRST, "fp32"), (SECOND, "int8")):
        _run(
            *("workloads.quantize", str(directory / "training"), "--data", "digits", "--target", "cpu"),
            *("--out", str(directory / name), "--set", f"precision={precision}", "--publish-slower", "a test"),
        )
    _turn_round(directory)
    rows = held_out(Digits())
    np.savez(directory / ROWS, x=rows.x.numpy()[:100], labels=rows.y.numpy()[:100])


def _turn_round(directory: Path) -> None:
    """Write the first model with its answer negated, and with the report of the one that it was."""
    first = read(directory / FIRST)
    graph = onnx.load(directory / FIRST / "model.onnx")
    [report] = graph.graph.output
    for node in graph.graph.node:
        node.output[:] = [f"{name}.right" if name == report.name else name for name in node.output]
    graph.graph.node.append(helper.make_node("Neg", [f"{report.name}.right"], [report.name]))
    onnx.save(graph, directory / "wrong.onnx")
    files = {"model.onnx": directory / "wrong.onnx"}
    publish(directory / WRONG, files, first.name, first.inputs, first.outputs, first.lineage)


def _run(*argv: str) -> None:
    subprocess.run([sys.executable, "-m", *argv], cwd=ROOT, env=environment(), check=True)


if __name__ == "__main__":
    make(Path(sys.argv[1]))
