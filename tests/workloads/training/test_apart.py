"""Processes on hosts apart, started as the launcher of a run starts them: a cut network, and torchrun's own way."""

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.training_runs import ROOT, assert_close, config, environment, read_metrics, weights
from tests.workloads.training.elastic import CHANGES, PATIENCE_SECONDS, ElasticRun
from tests.workloads.training.networks import NIC, Network, network
from workloads.training import plan as plans
from workloads.training.plan import LaunchHost, LaunchPlan
from workloads.training.run import train

pytestmark = pytest.mark.skipif(os.getuid() != 0, reason="only root makes networks")


@pytest.fixture
def hosts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Network]:
    with network(tmp_path / "network", 3) as hosts:
        monkeypatch.setenv("PATH", f"{hosts.commands}:{os.environ['PATH']}")
        monkeypatch.setenv("PYTHONPATH", str(ROOT))
        monkeypatch.setenv("OMP_NUM_THREADS", "1")
        yield hosts


def plan(hosts: int, directory: Path, *changes: str, launcher: str, min_processes: int | None = None) -> LaunchPlan:
    """Return the plan of a run on so many hosts, with its configuration written, and who is there."""
    nodes = tuple(LaunchHost(Network.address(number), Network.address(number)) for number in range(1, hosts + 1))
    report = directory / "config.json"
    report.write_text(config("digits", f"launcher={launcher}", *changes).model_dump_json())
    discover = directory / "network" / "discover"
    discover.write_text("#!/bin/sh\n" + "".join(f"echo {host.address}:1\n" for host in nodes))
    discover.chmod(0o755)
    return LaunchPlan(
        name="digits", host=nodes[0].name, hosts=nodes, processes=1, launcher=launcher, min_processes=min_processes,
        interface=NIC, rendezvous_port=29400,
        config=report, out=directory / "out", home=directory, log=directory / "log", grace_seconds=5,
        data=None, provenance={},
    )  # fmt: skip


def test_a_cut_network_costs_the_steps_since_the_last_commit(
    hosts: Network, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    No process gets a signal, and all connections stay open.
    """
    monkeypatch.setattr(plans, "ELASTIC_GLOO_SECONDS", PATIENCE_SECONDS)
    apart = plan(3, tmp_path, *CHANGES, launcher="horovod", min_processes=2)
    [argv] = plans.commands(apart, apart.hosts)
    run = ElasticRun(hosts.inside(1, *argv), environment(**plans.process_environment(apart)), tmp_path)
    try:
        run.trains(Network.address(1), 3)
        hosts.cut(3)
        left = run.trains(Network.address(1), 2)
        print(json.dumps(run.cost(Network.address(1), left)))
    finally:
        run.close()


def test_torchrun_leads_processes_on_two_hosts(hosts: Network, tmp_path: Path) -> None:
    apart = plan(2, tmp_path, "world=2", launcher="torchrun")
    variables = environment(**plans.process_environment(apart))
    processes = [
        subprocess.Popen(hosts.inside(1, *argv), env=variables, stdin=subprocess.DEVNULL)
        for argv in plans.commands(apart, apart.hosts)
    ]
    train(config(), tmp_path / "alone", {})
    assert [process.wait(600) for process in processes] == [0, 0]

    assert_close(weights(tmp_path / "alone"), weights(apart.out))
    assert [read_metrics(apart.out, rank)[0]["rank"] for rank in ("0", "1")] == [0, 1]
