"""A worker of vLLM on a processor may use the tile registers that its processor has."""

import ctypes
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.training_runs import ROOT

PERMITTED = """
import ctypes, importlib, sys
module, _, name = sys.argv[1].rpartition(".")
assert isinstance(getattr(importlib.import_module(module), name), type)
found = ctypes.c_ulong()
assert ctypes.CDLL(None).syscall(158, 0x1022, ctypes.byref(found)) == 0
print(found.value >> 18 & 1)
"""
"""Prints 1 if Linux permits the tiles once the class is imported. Source: ARCH_GET_XCOMP_PERM, XFEATURE_XTILE_DATA."""


@pytest.mark.skipif(platform.machine() != "x86_64", reason="only processors of x86 have AMX")
def test_a_worker_may_use_the_tiles_of_its_processor() -> None:
    tiles = "amx_tile" in Path("/proc/cpuinfo").read_text().split()
    if tiles and ctypes.CDLL(None).syscall(158, 0x1021, ctypes.byref(found := ctypes.c_ulong())) == 0:
        tiles = bool(found.value >> 18 & 1)  # a hypervisor may show what its kernel does not give
    argv = [sys.executable, "-c", PERMITTED, "workloads.serving.vllm_worker.Worker"]
    done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout.strip() == str(int(tiles))
