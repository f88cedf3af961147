"""GPUs of a container that really runs, with their faults, as the probe sees them."""

import json
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pexpect
import pytest
from typer.testing import CliRunner

from rackwright.cli.app import app
from rackwright.errors import DeclarationError, StepFailed
from rackwright.facts.view import UnknownFact
from rackwright.twin import Twin
from rackwright.twin.gpu import faults, library, plug, state
from tests.support.driver_install import HOST, INSTALL, REAL, VERSION
from tests.twin.conftest import RunningTwin, container

pytestmark = [
    pytest.mark.twin,
    pytest.mark.skipif(os.geteuid() != 0, reason="only root can start containers"),
]


@pytest.fixture(scope="module")
def rack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningTwin]:
    """A container with two GPUs and one without GPUs."""
    messages: list[str] = []
    with_gpus = replace(container(1), gpus=("a100-80gb", "t4"))
    twin = Twin(tmp_path_factory.mktemp("gpus"), [with_gpus, container(2)])
    twin.start(messages.append)
    yield RunningTwin(twin, messages)
    twin.stop(messages.append, grace_seconds=0)


@pytest.fixture
def rack_with_driver(rack: RunningTwin) -> RunningTwin:
    """The rack with an installed driver, and without a fault of any GPU."""
    rack.run(INSTALL)
    for index in (0, 1):
        faults.inject(rack.twin, HOST, index, "clear")
    return rack


def test_without_a_driver_gpus_are_unknown_and_faults_fail(rack):
    rack.run(f"sudo rm -f {REAL} {REAL.removesuffix(VERSION)}1 && sudo ldconfig")

    with pytest.raises(UnknownFact, match="Driver Not Loaded"):
        _ = faults.probe_gpus(rack.twin, HOST).gpus
    with pytest.raises(StepFailed, match="Driver Not Loaded.*Install a GPU driver"):
        faults.inject(rack.twin, HOST, 0, "hot")


def test_a_host_without_gpus_has_no_gpu_files(rack):
    assert rack.run(f"ls -d {plug.FOLDER} {state.PATH} 2>&1 | grep -c 'No such file'", "test-02") == "2"


def test_the_probe_loads_the_stand_in_before_the_real_library(rack_with_driver):
    """
    The stand-in stays first even if a package installs a library at the usual path later.
    """
    facts = faults.probe_gpus(rack_with_driver.twin, HOST)

    assert (facts.gpu_driver.version, facts.gpu_driver.library) == (VERSION, f"{plug.FOLDER}/{library.SONAME}")
    assert [gpu.name for gpu in facts.gpus] == ["NVIDIA A100 80GB", "NVIDIA T4"]
    assert [gpu.uuid for gpu in facts.gpus] == [state.uuid(HOST, index) for index in (0, 1)]
    assert facts.xids == ()


@pytest.mark.parametrize("fault", [name for name in faults.FAULTS if name != "clear"])
def test_each_fault_affects_only_its_gpu_and_can_be_cleared(rack_with_driver, fault):
    before = faults.probe_gpus(rack_with_driver.twin, HOST).raw

    faults.inject(rack_with_driver.twin, HOST, 1, fault)

    after = faults.probe_gpus(rack_with_driver.twin, HOST)
    assert after.raw["gpus"][0] == before["gpus"][0]
    assert (after.raw["gpus"][1], after.raw["xids"]) != (before["gpus"][1], before["xids"])
    assert {xid.pci for xid in after.xids} <= {"0000:11:00"}
    faults.inject(rack_with_driver.twin, HOST, 1, "clear")
    cleared = faults.probe_gpus(rack_with_driver.twin, HOST).raw
    assert (cleared["gpus"], cleared["xids"]) == (before["gpus"], [])


@pytest.mark.parametrize(
    ("host", "gpus"), [(HOST, "a number from 0 to 1"), ("test-02", "a host whose profile has GPUs")]
)
def test_a_fault_of_a_missing_gpu_is_an_error(rack, host, gpus):
    with pytest.raises(DeclarationError, match=f"{host}: GPU 2: the host has no such GPU; {gpus}"):
        faults.inject(rack.twin, host, 2, "hot")


def test_gpu_settings_survive_a_start_and_not_a_reset(rack_with_driver):
    def files() -> str:
        return rack_with_driver.run(f"sha256sum {state.PATH}")

    fresh = files()
    rack_with_driver.run(f"sudo sed -i 's/^ecc_pending=1/ecc_pending=0/' {state.PATH}")

    rack_with_driver.twin.power_off(HOST)
    rack_with_driver.twin.power_on(HOST, rack_with_driver.messages.append)

    assert [gpu.ecc for gpu in faults.probe_gpus(rack_with_driver.twin, HOST).gpus] == [False, False]
    assert files() != fresh
    rack_with_driver.twin.reset(rack_with_driver.messages.append)
    rack_with_driver.twin.start(rack_with_driver.messages.append)
    rack_with_driver.run(INSTALL)
    assert [gpu.ecc for gpu in faults.probe_gpus(rack_with_driver.twin, HOST).gpus] == [True, True]


def test_a_host_that_refuses_the_gpu_files_still_starts(rack, monkeypatch):
    """
    A role may have removed the image's user, which the twin needs to install files. The host keeps its GPUs.
    """
    monkeypatch.setattr(plug, "_UNPACK", "echo not you >&2; exit 1")

    rack.twin.start(rack.messages.append)

    assert rack.messages[-1].startswith("test-01: GPUs: the guest cannot unpack the files of its GPUs: not you.")


def test_without_a_compiler_the_twin_starts_without_gpus(tmp_path, monkeypatch):
    def no_library(progress):
        raise library._setup_error("the program cc is missing")

    monkeypatch.setattr(library, "ensure", no_library)
    messages: list[str] = []
    twin = Twin(tmp_path, [replace(container(7), gpus=("t4",))])
    try:
        twin.start(messages.append)
        assert twin.answers_ssh("test-07")
        assert messages[-1].startswith("test-07: without GPUs: GPUs of the twin: the program cc is missing")
    finally:
        twin.reset(messages.append)


FLEET = """
fleet: example
hosts:
  alpha: {address: 192.0.2.1, identity: {serial: A1}, os: debian-12, profile: inference-t4}
  beta: {address: 192.0.2.2, identity: {serial: B1}, os: debian-12, profile: inference-t4}
  gamma: {address: 192.0.2.3, identity: {serial: C1}, os: debian-12}
"""
SETTINGS = "config: {rackwright:fleet: example.yaml, rackwright:target: twin:lab, rackwright:containers: [%s]}"
Say = Callable[..., tuple[int, str]]


@pytest.fixture(scope="module")
def say(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Say]:
    """The command line in a checkout whose fleet has two hosts with eight GPUs each, and one without."""
    project, runner, before = tmp_path_factory.mktemp("project"), CliRunner(), Path.cwd()
    (project / "stacks").mkdir()
    (project / "Pulumi.yaml").touch()
    (project / "stacks/example.yaml").write_text(FLEET)
    (project / "stacks/Pulumi.lab.yaml").write_text(SETTINGS % "alpha, beta, gamma")

    def run(*words: str) -> tuple[int, str]:
        done = runner.invoke(app, words)
        if isinstance(done.exception, Exception) and not isinstance(done.exception, SystemExit):
            raise done.exception
        return done.exit_code, done.stdout

    os.chdir(project)
    try:
        assert run("twin", "start", "lab")[0] == 0
        twin = Twin(project / ".rackwright/twins/lab", [replace(container(1), name=name) for name in ("alpha", "beta")])
        for host in twin.machines:
            RunningTwin(twin, []).run(INSTALL, host)
        yield run
    finally:
        Twin(project / ".rackwright/twins/lab", []).stop(print, grace_seconds=0)
        os.chdir(before)


def top(say: Say) -> tuple[int, list[dict[str, Any]]]:
    status, printed = say("gpu", "top", "lab", "--json")
    return status, json.loads(printed)["gpus"]


def test_gpu_top_lists_each_declared_gpu(say):
    status, gpus = top(say)

    assert status == 0
    assert [(gpu["host"], gpu["index"]) for gpu in gpus] == [(host, n) for host in ("alpha", "beta") for n in range(8)]
    assert {gpu["name"] for gpu in gpus} == {"NVIDIA T4"}


@pytest.mark.parametrize(
    ("fault", "alert"),
    [
        ("lost", "lost"),
        ("xid", "Xid 31: pid=4242, name=python3, Ch 00000010, MMU Fault"),
        ("ecc", "uncorrected errors 1 > 0"),
        ("hot", "temperature 97 °C > 85 °C"),
        ("busy", "utilisation 98 % > 95 %"),
    ],
)
def test_a_fault_is_an_alert_until_it_is_cleared(say, fault, alert):
    assert say("twin", "fault", "lab", f"gpu-{fault}", "beta", "3")[0] == 0

    status, gpus = top(say)

    assert status == 1
    assert alert in next(gpu["alerts"] for gpu in gpus if (gpu["host"], gpu["index"]) == ("beta", 3))
    assert {gpu["host"] for gpu in gpus if gpu["alerts"]} == {"beta"}
    assert say("twin", "fault", "lab", "gpu-clear", "beta", "3")[0] == 0
    assert top(say)[0] == 0


def test_gpu_top_prints_one_table(say):
    status, printed = say("gpu", "top", "lab", "--once")

    assert status == 0
    assert printed.splitlines()[-1] == "lab: 16 GPUs, 0 with alerts"


def test_the_live_table_ends_with_its_last_state_at_an_interrupt(say):
    program = str(Path(sys.executable).with_name("rackwright"))
    child = pexpect.spawn(program, ["gpu", "top", "lab", "--seconds", "0.1"], dimensions=(60, 200), timeout=60)
    child.expect("lab: 16 GPUs, 0 with alerts")

    say("twin", "fault", "lab", "gpu-hot", "alpha", "7")

    child.expect("lab: 16 GPUs, 1 with alerts")
    child.sendintr()
    child.expect(pexpect.EOF)
    child.wait()
    child.close()
    assert child.exitstatus == 1
    say("twin", "fault", "lab", "gpu-clear", "alpha", "7")


def test_a_host_that_is_off_is_one_row_and_hides_no_other(say):
    say("twin", "fault", "lab", "power-off", "beta")
    try:
        status, gpus = top(say)
    finally:
        say("twin", "fault", "lab", "power-on", "beta")

    assert status == 3
    assert [gpu["index"] for gpu in gpus if gpu["host"] == "alpha"] == [*range(8)]
    [row] = [gpu for gpu in gpus if gpu["host"] == "beta"]
    assert (row["index"], row["alerts"]) == (None, [])
    assert row["not_reached"].startswith("beta: ")


def test_a_gpu_fault_needs_a_number(say):
    assert say("twin", "fault", "lab", "gpu-hot", "beta", "first")[0] == 2
