"""Line 6: a real GPU is seen and measured, where this computer has one; hosts without one show what they can."""

import json
import os
import subprocess
from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from rackwright.facts import probe
from rackwright.facts.facts import Facts
from rackwright.facts.view import UnknownFact
from rackwright.hosts.transport import CommandResult
from rackwright.qualify import gpus, tool
from rackwright.qualify.gpus import Gpus
from rackwright.qualify.item import Item, MeasurementFailed
from rackwright.schema.host import Host
from tests.support.acceptance import line
from tests.support.expect import need
from tests.support.gpu_lab import DRIVER
from tests.support.lab import Lab
from tests.support.log import Log

HERE = {"address": "127.0.0.1", "identity": {"serial": "HERE"}, "os": "debian-12"}
FLEET = """\
fleet: pair
hosts:
  alpha:
    address: 192.0.2.1
    identity: {serial: S-ALPHA}
    os: debian-12
    profile: inference-t4
    nics:
      - {name: fabric0, mac: "52:54:00:06:01:01", mtu: 9000, addresses: [198.51.100.1/24]}
  beta:
    address: 192.0.2.2
    identity: {serial: S-BETA}
    os: debian-12
    nics:
      - {name: fabric0, mac: "52:54:00:06:01:02", mtu: 9000, addresses: [198.51.100.2/24]}
"""


class Here:
    """This computer, as a bench."""

    host = "here"

    def __init__(self, log: Log) -> None:
        self.hosts, self._log = self, log

    def run(
        self, what: str, argv: Sequence[str], seconds: float, environment: Mapping[str, str] | None = None
    ) -> CommandResult:
        self._log(what)
        done = self._log.run(argv, env={**os.environ, **(environment or {})}, timeout=seconds)
        return CommandResult(done.returncode, done.stdout.encode(), done.stderr)

    def stop(self) -> None:
        """Nothing outlives the wait for it."""

    def gpus(self, host: str) -> Facts:
        done = subprocess.run(probe.command(), input=probe.stdin_for_gpus(), capture_output=True, check=True)
        return probe.parse(done.stdout, host)


@line("accelerators", 6)
def test_a_real_gpu_is_observed_and_measured(log: Log) -> str:
    """The probe reports every GPU, and each item that has a tool gives a figure and is not short."""
    if not DRIVER.exists():
        pytest.skip("unverified on hardware: this computer has no GPU of NVIDIA's with a driver")
    here: Any = Here(log)
    before = here.gpus("here")
    seen = [f"{gpu.name} at {gpu.temperature_celsius} °C with {gpu.power_watts} W" for gpu in before.gpus]
    need(seen, "the driver is loaded, and the probe sees no GPU")
    driver = before.gpu_driver.version
    found = tool.parse_paths(here.run("which tools there are", tool.find_command(driver), 60).stdout.decode())
    site = Gpus(here, Host.model_validate(HERE), before, found)
    several = (gpus.PEER_COPY, gpus.ALL_REDUCE) if len(seen) > 1 else ()
    names = (gpus.MEMORY, gpus.HOST_COPY, *several, gpus.BURN_IN, gpus.DIAGNOSIS)
    items = [_item(site, name) for name in names]
    bad = [f"{item.name}: {item.details}" for item in items if item.state in ("short", "failed")]
    need(not bad, "; ".join(bad))
    return f"{driver}; {'; '.join(seen)}; {'; '.join(map(_describe, items))}"


@line("accelerators", 6, part="containers")
def test_memory_and_network_of_two_containers_are_measured(log: Log) -> str:
    """Two containers: real figures for what they have, and not one for what they have not."""
    if os.geteuid() != 0:
        pytest.skip("containers need root")
    with Lab(log.empty_directory() / "project", FLEET, log, containers=["alpha", "beta"]) as lab:
        lab.start()
        for host, number in (("alpha", 1), ("beta", 2)):
            lab.ssh(host, f"ip link set fabric0 mtu 9000 up; ip addr replace 198.51.100.{number}/24 dev fabric0")
        done = lab.rackwright("host", "qualify", lab.stack, "alpha", "--peer", "beta", "--json", status=0)
        report = json.loads(done.stdout)
        items = {item["name"]: item for item in report["items"]}
        own = [items[name] for name in ("host memory", "network to beta")]
        need(all(item["state"] == "measured" for item in own), f"not measured: {own}")
        others = {item["state"] for name, item in items.items() if item not in own}
        need(others == {"not rehearsable"}, f"of GPUs that are stand-ins it says {others}")
        figures = ", ".join(f"{item['name']} {item['figures'][0]['value']:.2f} GB/s" for item in own)
        return f"{figures} ({own[1]['details']}); {report['counts']['not rehearsable']} of GPUs are not rehearsable"


def _item(site: Gpus, name: str) -> Item:
    try:
        return site.measure(name)
    except UnknownFact as reason:
        return Item(name, "not possible", details=str(reason))
    except MeasurementFailed as reason:
        return Item(name, "failed", details=str(reason))


def _describe(item: Item) -> str:
    figures = ", ".join(f"{figure.name} {figure.value:.1f} {figure.unit}" for figure in item.figures)
    return f"{item.name} {item.state}: {figures or item.details}"
