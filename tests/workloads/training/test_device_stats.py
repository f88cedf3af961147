"""Metrics of a GPU are those of NVIDIA's library, here its stand-in; a missing value is not made up."""

import json
import os
import subprocess
import sys

import pytest

from rackwright.twin.gpu import state
from tests.support.gpu_stand_in import Host, stand_in
from tests.support.training_runs import ROOT
from workloads.catalogue.accelerators import peak_flops
from workloads.training.device import select_device
from workloads.training.device_stats import DeviceStats

ASK = (
    "import sys, json; from workloads.training.device_stats import DeviceStats; gauges = DeviceStats(sys.argv[1]);"
    "print(json.dumps([gauges.read(), gauges.peak_flops()]))"
)


def test_they_are_read_of_the_gpu_that_is_trained_on() -> None:
    with stand_in() as root:
        host = Host(root)
        host.state.write_text(state.text("node-1", ["t4", "a100-80gb"]))
        host.install("580.65.06")
        busy = {"idle_utilisation_percent": 97, "idle_memory_used_bytes": 70_000_000_000, "idle_power_mw": 391_500}
        for key in busy:  # idle: so the driver begins
            host.remove(1, key)
        host.edit(1, **busy)
        measured, peak = _asked(host, state.uuid("node-1", 1))
    assert measured == {"gpu_utilisation_percent": 97, "gpu_memory_bytes": 70_000_000_000, "gpu_power_watts": 391.5}
    assert peak == 312e12


def _asked(host: Host, uuid: str) -> list[object]:
    environment = {**os.environ, "LD_LIBRARY_PATH": str(host.root), "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", ASK, uuid], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    report: list[object] = json.loads(done.stdout)
    return report


def test_what_it_does_not_say_is_none() -> None:
    with stand_in() as root:
        host = Host(root)
        host.state.write_text(state.text("node-1", ["a100-80gb"]))
        host.install("580.65.06")
        host.remove(0, "power_mw")
        host.remove(0, "idle_power_mw")
        measured, _ = _asked(host, state.uuid("node-1", 0))
    assert measured == {"gpu_utilisation_percent": 0, "gpu_memory_bytes": 0, "gpu_power_watts": None}


def test_a_cpu_has_none() -> None:
    assert DeviceStats.for_device(select_device("cpu", 0, 1)) is None


@pytest.mark.parametrize(
    ("pci", "flops"), [("10de:20b5", 312e12), ("10de:1eb8", 65e12), ("10de:15f8", None), ("dead:beef", None)]
)
def test_the_catalogue_knows_what_some_compute_at_best(pci: str, flops: float | None) -> None:
    assert peak_flops(pci) == flops
