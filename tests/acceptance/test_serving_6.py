"""Line 6: NVIDIA's own software takes what is written for its GPUs."""

import json
import os
from pathlib import Path

import pytest

from tests.support.acceptance import line
from tests.support.expect import need
from tests.support.gpu_lab import DRIVER
from tests.support.log import ROOT, Log
from tests.support.tensorrt import NOT_HERE, ask, environment
from tests.support.workloads import module, python

WANTED_ALIKE = 0.98

WRITTEN = {"t4": ("QUANTIZE INT8", "8.0", "8.6", "8.9"), "v100-16gb": ("CONVOLUTION HALF", "7.5", "8.0", "8.9")}
"""By target, layers that tell its precision, and what it is compiled for: TensorRT for RTX has no Volta, and on Turing
no matrices of fp32."""


@line("serving", 6)
def test_a_tensorrt_engine_answers_as_its_model_does(log: Log) -> str:
    """The digits in 8 bits: an engine that TensorRT for RTX builds on this computer's GPU, beside ONNX Runtime."""
    if not DRIVER.exists():
        pytest.skip("unverified on hardware: this computer has no GPU of NVIDIA's with a driver")
    directory = log.empty_directory()
    log("training the digits")
    module(log, "digits", "--out", str(directory / "training"))
    model, engine = _written(log, directory, "t4").parent, directory / "engine"
    [packages] = environment().directory.glob("lib/python*/site-packages")
    with_it = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(packages)}

    def run(*argv: str) -> str:
        done = log.run([python(log), "-m", *argv], ROOT, with_it)
        need(done.returncode == 0, f"{argv[0]} ended with {done.returncode}: {done.stderr.strip()[-300:]}")
        return done.stdout

    log("building the engine")
    run("workloads.quantize.engine", str(model), "--out", str(engine), "--library", "tensorrt_rtx_bindings")
    report = json.loads(run("tests.support.tensorrt.answers", str(model), str(engine)))
    need(report["alike"] >= WANTED_ALIKE, f"{report['runtimes']} answer {report['alike']:.2%} of the rows alike")
    return f"{' and '.join(report['runtimes'])} answer {report['alike']:.2%} of the rows held out alike"


@line("serving", 6, part="parser")
def test_the_parser_and_compiler_of_nvidia_accept_our_models(log: Log) -> str:
    """The digits in 8 bits and in fp16 are parsed and compiled; in the form for a CPU they are refused."""
    if NOT_HERE:
        pytest.skip(NOT_HERE)
    directory = log.empty_directory()
    log("training the digits")
    module(log, "digits", "--out", str(directory / "training"))
    messages: list[str] = []
    for target, (layers, *architectures) in WRITTEN.items():
        answer = ask(_written(log, directory, target), *architectures)
        need(answer.strongly_typed and not answer.errors, f"the parser says of {target}: {answer.errors}")
        need(answer.layers.get(layers), f"of {target} it sees no {layers}: {answer.layers}")
        bad = {name: size for name, size in answer.compiled.items() if not isinstance(size, int)}
        need(not bad, f"of {target} it does not compile {bad}")
        messages.append(f"{target} has {answer.layers[layers]} {layers}, compiled for {', '.join(architectures)}")
    refused = ask(_written(log, directory, "cpu"))
    need(refused.errors, "the parser takes the form for a CPU, which TensorRT does not compute")
    return f"TensorRT for RTX {refused.version} without a GPU: {'; '.join(messages)}; the form for a CPU is refused"


def _written(log: Log, directory: Path, target: str) -> Path:
    log(f"quantising for {target}")
    out = directory / target
    given = (str(directory / "training"), "--data", "digits", "--target", target, "--out", str(out))
    argv = [python(log), "-m", "workloads.quantize", *given]
    done = log.run(argv, env={**os.environ, "OMP_NUM_THREADS": "1"})
    need(done.returncode == 0, f"quantising for {target} ended with {done.returncode}: {done.stderr.strip()[-300:]}")
    return out / "model.onnx"
