"""Every benchmark that needs no GPU environment runs, at its smallest size."""

import os
import shutil

import pytest

from tests.support.benchmark import smallest


def test_an_audit_is_measured():
    figures = smallest("benchmarks.audit")

    assert figures["hosts"] == 2 and figures["resources"] == 2 * (1 + 2 + 5)


def test_an_audit_over_ssh_is_measured_beside_paramiko():
    figures = smallest("benchmarks.live_audit")

    assert figures["hosts"] == 2 and figures["ratio"] > 0 and figures["memory_mb"] > 0


def test_hosts_that_hang_are_measured():
    assert smallest("benchmarks.hanging")["timeouts"] >= 0


@pytest.mark.pulumi
def test_a_further_host_is_measured():
    assert smallest("benchmarks.further_host")["steps"] == 0


def test_a_start_is_measured():
    assert smallest("benchmarks.startup")["seconds"]["rackwright check lab"] > 0


def test_a_probe_is_measured():
    figures = smallest("benchmarks.probe")

    assert figures["answer_bytes"] > 0 and figures["large_ms"] > 0


@pytest.mark.pulumi
def test_a_preview_is_measured():
    assert smallest("benchmarks", "preview")["ms_per_host"] > 0


@pytest.mark.twin
@pytest.mark.skipif(os.geteuid() != 0, reason="containers need root")
def test_roles_are_measured():
    assert smallest("benchmarks", "roles")["applied"][0]["hosts"] == 1


def test_loading_from_each_tier_is_measured():
    ratios = smallest("benchmarks.cold")["ratios"]
    assert ratios["cold"].keys() == {"rackwright", "boto3", "raw"}
    assert ratios["drive"].keys() == ratios["drive, cached"].keys() >= {"rackwright", "raw"}


@pytest.mark.skipif(os.geteuid() != 0, reason="drives in files need root")
def test_synchronous_writes_of_a_store_are_measured():
    assert smallest("benchmarks.store_writes")["ratios"]["ext4"]["4 KiB"] > 0


def test_forwarding_is_measured():
    [ways] = smallest("benchmarks.forwarding").values()
    assert ways["rackwright"]["per_second"] > 0


@pytest.mark.parametrize("name", ["serving", "memory"])
@pytest.mark.skipif(shutil.which("go") is None, reason="bombardier, which asks the servers, is built with Go")
def test_serving_is_measured(name):
    assert smallest(f"benchmarks.{name}")
