"""Every check runs to its last figure on a processor, at its smallest size, with stand-ins for NVIDIA's libraries."""

import ctypes
import json
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pynvml
import pytest
import torch

from rackwright.facts.probe import gpus
from rackwright.twin.gpu import state
from tests.gpu.check import Check, Recorder, Target
from tests.gpu.checks import CHECKS
from tests.support import engine_stand_in
from tests.support.gpu_stand_in import Host, stand_in
from tests.support.log import ROOT
from workloads.serving.runtimes import cuda

TINY = Target("cpu", tiny=True)
LAST_FIGURE = {
    "probe": "unknown", "device": "memory_bytes", "nccl": "stop_flag_ms", "two-gpus": "loss_of_two",
    "language": "loss", "digits": "resumed_to_the_last_bit", "tensorrt-digits": "batch_1_ms",
    "catalogue": "gpus_without_code", "onnx-cpu": "cosine", "chunked-loss": "memory_ratio",
    "checkpoints": "on_the_drive_ms", "onnx-cuda": "cosine", "tensorrt-int8": "cosine", "tensorrt-fp8": "cosine",
    "compile": "memory_ratio", "vllm": "streams_16_first_ms",
}  # fmt: skip
"""The figure that each check records last: with it, each line of the check has run."""
FUNCTIONS = {each.name: each for each in CHECKS if each.gpus or not each.stands_for or each.name == "onnx-cpu"}
"""One check for each function; the others are the same functions on a processor."""


@pytest.fixture(scope="module")
def libraries() -> Iterator[tuple[Host, Path]]:
    """Yield a host with the stand-in for NVML, and the path of that for NVIDIA's driver."""
    with stand_in() as root:
        host = Host(root)
        host.install("580.95.05")
        host.state.write_text(state.text("alpha", ("h100-sxm", "h100-sxm")))
        host.edit(0, memory_used_bytes=1 << 30, idle_memory_used_bytes=1 << 30)
        yield host, engine_stand_in.compile_driver(root)


@pytest.fixture(autouse=True)
def machine(libraries: tuple[Host, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the stand-ins those of this process and of its children."""
    host, driver = libraries
    (tmp_path / "vllm").write_text(f'#!/bin/sh\nexec {sys.executable} -m tests.support.models.like_vllm "$@"\n')
    (tmp_path / "vllm").chmod(0o755)
    monkeypatch.setattr(gpus, "LIBRARY", str(host.library))
    monkeypatch.setattr(pynvml, "nvmlLib", ctypes.CDLL(str(host.library)))
    pynvml._nvmlGetFunctionPointer_cache.clear()
    monkeypatch.setattr(cuda, "LIBRARY", str(driver))
    monkeypatch.syspath_prepend(engine_stand_in.DIRECTORY)
    monkeypatch.setenv("PYTHONPATH", f"{ROOT}{os.pathsep}{engine_stand_in.DIRECTORY}")
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(os, "environ", os.environ.copy())
    compile_module = torch.nn.Module.compile  # by the backend that calls no C++ compiler
    monkeypatch.setattr(torch.nn.Module, "compile", lambda module: compile_module(module, backend="aot_eager"))


@pytest.mark.parametrize("each", FUNCTIONS.values(), ids=FUNCTIONS)
def test_a_check_runs_to_its_last_figure(each: Check, tmp_path: Path) -> None:
    torch.set_num_threads(1)
    recorder = Recorder(tmp_path / "result.json")
    each.run(recorder, TINY)
    figures = json.loads((tmp_path / "result.json").read_text())["figures"]
    assert [*figures][-1] == LAST_FIGURE[each.name]
    assert all(value == value for value in figures.values()), figures


def test_each_function_has_a_last_figure() -> None:
    assert set(LAST_FIGURE) == set(FUNCTIONS)
    assert {each.run for each in CHECKS} == {each.run for each in FUNCTIONS.values()}
