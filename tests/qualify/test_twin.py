"""Two container hosts are qualified: items are measured where possible, and reported as not rehearsable elsewhere."""

import json
import os
import shlex
import subprocess
from collections.abc import Iterator
from concurrent import futures
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from rackwright.cli.app import app
from rackwright.errors import ChangeRefused, DeclarationError
from rackwright.hosts.pool import Hosts
from rackwright.qualify import gpus
from rackwright.qualify.bench import Bench
from rackwright.qualify.item import QualificationReport
from rackwright.qualify.run import qualify
from rackwright.stack import load_stack
from rackwright.twin import Container, Twin
from tests.qualify import recordings
from tests.support.driver_install import INSTALL

pytestmark = [
    pytest.mark.twin,
    pytest.mark.skipif(os.geteuid() != 0, reason="containers need root"),
]

FLEET = """
fleet: example
hosts:
  alpha:
    address: 192.0.2.1
    identity: {serial: A1}
    os: debian-12
    profile: inference-t4
    nics:
      - {name: fabric0, mac: "52:54:00:00:07:01", mtu: 9000, addresses: [198.51.100.1/24]}
      - {name: other0, mac: "52:54:00:00:07:03", mtu: 9000}
  beta:
    address: 192.0.2.2
    identity: {serial: B1}
    os: debian-12
    nics:
      - {name: fabric0, mac: "52:54:00:00:07:02", mtu: 9000, addresses: [198.51.100.2/24]}
"""
SETTINGS = "config: {rackwright:fleet: example.yaml, rackwright:target: twin:lab, rackwright:containers: [alpha, beta]}"
OF_GPUS = {
    "GPUs",
    "GPU memory",
    "copies between host and GPU",
    "copies from GPU to GPU",
    "all-reduce",
    "burn-in",
    "DCGM diagnostics",
}


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A checkout whose twin runs, with addresses on the fabric and a driver for the GPUs."""
    project, before = tmp_path_factory.mktemp("project"), Path.cwd()
    (project / "stacks").mkdir()
    (project / "Pulumi.yaml").touch()
    (project / "stacks/example.yaml").write_text(FLEET)
    (project / "stacks/Pulumi.lab.yaml").write_text(SETTINGS)
    os.chdir(project)
    try:
        assert run("twin", "start", "lab")[0] == 0
        on("alpha", INSTALL)
        for host, number in (("alpha", 1), ("beta", 2)):
            on(host, f"sudo sh -c 'ip link set fabric0 up && ip addr replace 198.51.100.{number}/24 dev fabric0'")
        yield project
    finally:
        Twin(project / ".rackwright/twins/lab", []).stop(print, grace_seconds=0)
        os.chdir(before)


COPIES = recordings.nvbandwidth(("host_to_device_memcpy_ce", [["11.9"]]), ("device_to_host_memcpy_ce", [["12.1"]]))


def printing(text: str) -> str:
    return f"printf %s {shlex.quote(text)}"


def run(*words: str) -> tuple[int, str]:
    done = CliRunner().invoke(app, words)
    if isinstance(done.exception, Exception) and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done.exit_code, done.stdout


def on(host: str, command: str, input: str = "") -> str:
    twin = Twin(Path(".rackwright/twins/lab").absolute(), [Container(name, name, ()) for name in ("alpha", "beta")])
    done = subprocess.run(twin.ssh(host, command), input=input, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def qualified(*more: str) -> tuple[int, dict[str, Any]]:
    status, printed = run("host", "qualify", "lab", "alpha", "--seconds", "0.5", "--json", *more)
    report = json.loads(printed)
    assert report["exit_status"] == status
    return status, {item["name"]: item for item in report["items"]}


def test_memory_and_network_are_measured_and_nothing_of_gpus_is_claimed(project):
    status, items = qualified("--peer", "beta")

    assert status == 0
    assert {name for name, item in items.items() if item["state"] == "not rehearsable"} == OF_GPUS
    assert items.keys() - OF_GPUS == {"host memory", "network to beta"}
    for name in ("host memory", "network to beta"):
        assert items[name]["state"] == "measured"
        assert items[name]["figures"][0]["value"] > 0
    assert items["network to beta"]["details"] == "fabric0 (198.51.100.1) to fabric0 (198.51.100.2)"


def test_nothing_is_left_of_it(project):
    qualified()

    assert on("alpha", "systemctl list-units --all --plain --no-legend 'rackwright-*'") == ""


def test_what_measures_may_change_nothing(project):
    hosts = Hosts((stack := load_stack("lab", project)).endpoints, stack.salt)
    try:
        done = Bench(hosts, "alpha", "alpha/qualify").run("who it is", ("sh", "-c", "id -u; touch /etc/x || true"), 20)
    finally:
        hosts.close()

    assert 61184 <= int(done.stdout) <= 65519  # systemd's range of accounts that last as long as a unit
    assert "Read-only file system" in done.stderr


def test_packets_that_take_another_interface_make_it_short(project):
    on("alpha", "sudo sh -c 'ip link set other0 up && ip route add 198.51.100.2/32 dev other0 src 198.51.100.1'")
    try:
        status, items = qualified("--peer", "beta")
    finally:
        on("alpha", "sudo ip route del 198.51.100.2/32 dev other0")

    assert status == 1
    assert items["network to beta"]["state"] == "short"
    assert "on alpha the traffic used other0, not fabric0" in items["network to beta"]["details"]


def test_a_host_with_running_jobs_is_left_alone(project):
    assert run("twin", "fault", "lab", "gpu-busy", "alpha", "3")[0] == 0
    try:
        with pytest.raises(ChangeRefused, match=r"alpha/qualify: process 4242 \(python3\) has .* of GPU 3"):
            qualified()
    finally:
        run("twin", "fault", "lab", "gpu-clear", "alpha", "3")


def test_a_command_waits_for_another_change_of_the_host(project):
    """
    The lock is the one of every change: while a step of another runs, nothing is measured.
    """
    unit = "rackwright-step-alpha-base-1"
    on("alpha", f"sudo systemd-run --quiet --unit {unit} --description {shlex.quote('alpha/base: x')} sleep infinity")
    try:
        with pytest.raises(Exception, match="a step of another resource runs on the host"):
            qualified()
    finally:
        on("alpha", f"sudo systemctl stop {unit}")


TOOLS = {
    "nvbandwidth": f"""\
case "$*" in
*device_to_device*) {printing(recordings.nvbandwidth(("device_to_device_memcpy_read_ce", [["N/A", "20.1"]])))} ;;
*) {printing(COPIES)} ;;
esac
""",
    "all_reduce_perf": f"""\
[ "$NCCL_DEBUG" = INFO ] || exit 1
[ -z "$NCCL_P2P_DISABLE" ] || exit 1
{printing(recordings.all_reduce(recordings.FALLEN_BACK))}
""",
    "nvidia-smi": printing(recordings.SWITCHED),
    "dcgmi": f"""\
case "$*" in
*memory_bandwidth*) {printing(recordings.dcgm(("memory_bandwidth", "Pass", "")))} ;;
*targeted_power.test_duration=60*) {printing(recordings.dcgm(("targeted_power", "Pass", "")))} ;;
*) {printing(recordings.NO_ENGINE)}; exit 1 ;;
esac
""",
}
"""Programs that print what the real ones do."""


def as_a_rack(project: Path) -> QualificationReport:
    """Qualify alpha as if its GPUs were real: everything is done but for what its tools print."""
    stack = replace(load_stack("lab", project), twin=None)
    hosts = Hosts(stack.endpoints, stack.salt)
    try:
        return qualify(hosts, stack, "alpha", None, print, seconds=0.2)
    finally:
        hosts.close()


def test_tools_are_found_run_and_read_on_a_host_that_has_them(project, monkeypatch):
    reads = iter([[]])
    monkeypatch.setattr(gpus, "wait", lambda running, seconds: futures.wait(next(reads, running)))
    for name, text in TOOLS.items():
        on("alpha", f"sudo sh -c 'cat > /usr/local/bin/{name}; chmod 755 /usr/local/bin/{name}'", f"#!/bin/sh\n{text}")
    try:
        report = as_a_rack(project)
    finally:
        on("alpha", f"cd /usr/local/bin && sudo rm {' '.join(TOOLS)}")

    items = {item.name: item for item in report.items}
    assert {name: item.state for name, item in items.items()} == {
        "host memory": "measured",
        "GPUs": "ok",
        "GPU memory": "ok",
        "copies between host and GPU": "measured",
        "copies from GPU to GPU": "measured",
        "all-reduce": "short",
        "burn-in": "ok",
        "DCGM diagnostics": "failed",
    }
    assert items["all-reduce"].details == "went over TCP, not over NVLink alone"
    assert [figure.name for figure in items["burn-in"].figures] == ["hottest", "most power", "slowest clock"]
    assert "Unable to connect to host engine" in items["DCGM diagnostics"].details
    assert report.exit_status == 1


def test_without_tools_nothing_of_gpus_is_known_and_each_is_named(project):
    report = as_a_rack(project)

    assert report.exit_status == 3
    assert report.counts == {"measured": 1, "ok": 1, "not possible": 6}
    impossible = [item.details for item in report.items if item.state == "not possible"]
    assert {details.partition(" is not installed")[0] for details in impossible} == {
        "dcgmi",
        "nvbandwidth",
        "all_reduce_perf",
    }


def test_people_get_a_table_and_its_sums(project):
    status, printed = run("host", "qualify", "lab", "alpha", "--seconds", "0.5")

    assert status == 0
    assert printed.splitlines()[-1] == "lab/alpha: 1 measured, 7 not rehearsable"


def test_hosts_that_are_not_declared_are_reported_all_at_once(project):
    with pytest.raises(DeclarationError) as caught:
        run("host", "qualify", "lab", "gamma", "--peer", "alpah")

    assert str(caught.value) == (
        "stack lab: the stack has no host gamma; one of alpha, beta. Name one of these.\n"
        "stack lab: the stack has no host alpah; one of alpha, beta. Write alpha."
    )
    with pytest.raises(DeclarationError, match="alpha: peer: alpha is the host itself"):
        run("host", "qualify", "lab", "alpha", "--peer", "alpha")
