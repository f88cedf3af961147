"""Every benchmark that needs no GPU environment can be imported; in `make soak` each runs, at its smallest size."""

import importlib
import os
import shutil

import pytest

from tests.support.benchmark import smallest
from tests.support.sources import ROOT

OF_WORKLOADS = {"training", "launchers", "streaming"}
"""Modules that import PyTorch."""


@pytest.mark.parametrize("name", sorted({path.stem for path in ROOT.glob("benchmarks/[a-z]*.py")} - OF_WORKLOADS))
def test_a_benchmark_finds_what_it_imports(name):
    assert importlib.import_module(f"benchmarks.{name}").__doc__


@pytest.mark.soak
def test_an_audit_is_measured():
    figures = smallest("benchmarks.audit")

    assert figures["hosts"] == 2 and figures["resources"] == 2 * (1 + 2 + 5)


@pytest.mark.soak
def test_an_audit_over_ssh_is_measured_beside_paramiko():
    figures = smallest("benchmarks.live_audit")

    assert figures["hosts"] == 2 and figures["ratio"] > 0 and figures["memory_mb"] > 0


@pytest.mark.soak
def test_hosts_that_hang_are_measured():
    assert smallest("benchmarks.hanging")["timeouts"] >= 0


@pytest.mark.soak
@pytest.mark.pulumi
def test_a_further_host_is_measured():
    assert smallest("benchmarks.further_host")["steps"] == 0


@pytest.mark.soak
def test_many_hosts_of_prometheus_are_measured():
    figures = smallest("benchmarks.monitoring")

    assert figures["samples_per_second"] > 0 and figures["bytes_of_sample"] > 0


@pytest.mark.soak
def test_a_start_is_measured():
    assert smallest("benchmarks.startup")["seconds"]["rackwright check lab"] > 0


@pytest.mark.soak
def test_a_probe_is_measured():
    figures = smallest("benchmarks.probe")

    assert figures["answer_bytes"] > 0 and figures["large_ms"] > 0


@pytest.mark.soak
@pytest.mark.pulumi
def test_a_preview_is_measured():
    assert smallest("benchmarks", "preview")["ms_per_host"] > 0


@pytest.mark.soak
@pytest.mark.twin
@pytest.mark.skipif(os.geteuid() != 0, reason="containers need root")
def test_roles_are_measured():
    assert smallest("benchmarks", "roles")["applied"][0]["hosts"] == 1


@pytest.mark.soak
def test_loading_from_each_tier_is_measured():
    ratios = smallest("benchmarks.cold")["ratios"]
    assert ratios["cold"].keys() == {"rackwright", "boto3", "raw"}
    assert ratios["drive"].keys() == ratios["drive, cached"].keys() >= {"rackwright", "raw"}


@pytest.mark.soak
@pytest.mark.skipif(os.geteuid() != 0, reason="drives in files need root")
def test_synchronous_writes_of_a_store_are_measured():
    assert smallest("benchmarks.store_writes")["ratios"]["ext4"]["4 KiB"] > 0


@pytest.mark.soak
def test_forwarding_is_measured():
    [ways] = smallest("benchmarks.forwarding").values()
    assert ways["rackwright"]["per_second"] > 0


@pytest.mark.soak
@pytest.mark.parametrize("name", ["serving", "memory"])
@pytest.mark.skipif(shutil.which("go") is None, reason="bombardier, which asks the servers, is built with Go")
def test_serving_is_measured(name):
    assert smallest(f"benchmarks.{name}")
