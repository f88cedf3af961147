"""A program that hangs makes its own reading unknown, and takes no other reading and no host with it."""

import ast
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from rackwright.facts import probe
from rackwright.facts.probe import (
    accounts,
    containers,
    gpus,
    health,
    isolate,
    kubernetes,
    loads,
    main,
    measures,
    nftables,
    observe,
    proof,
    service_state,
    system,
    units,
)
from rackwright.facts.probe.observe import ReadError, attempt, hanging
from rackwright.hosts import pool

SLEEPS = "#!/bin/sh\nexec sleep 300\n"


@pytest.fixture(autouse=True)
def _probe(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(observe, "TOOL_SECONDS", 0.3)
    hanging.begin()
    yield
    hanging._end, hanging._reasons = None, {}


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Return a function that puts programs first in PATH, which sleep."""

    def put(*names: str, text: str = SLEEPS) -> None:
        for name in names:
            path = tmp_path / name
            path.write_text(text)
            path.chmod(0o755)

    monkeypatch.setitem(observe.ENVIRONMENT, "PATH", f"{tmp_path}:{os.environ['PATH']}")
    return put


def a_call(name: str) -> list[Any]:
    return [attempt(observe.run_tool, name)]


READINGS: dict[str, Callable[[], list[Any]]] = {
    "sshd": lambda: [attempt(accounts.keys_of, "", "root", "0", "/root")],
    "chronyc": lambda: [*measures.measures().values()],
    "rpm": lambda: [attempt(system.rpm_packages)],
    "systemctl": lambda: [attempt(units.in_memory), attempt(units.show, ("LoadState",), ["x.mount"])],
    "busctl": lambda: [attempt(loads.time_of_reload, "x.service", loads.Clocks())],
    "ctr": lambda: [attempt(containers.table, "NAME", "ctr", "namespaces", "list")],
    "kubectl": lambda: [attempt(kubernetes.Api().ask, "version")],
    "kubeadm": lambda: a_call("kubeadm"),
    "nft": lambda: [attempt(nftables.list_objects, "tables")],
    "systemd-creds": lambda: a_call("systemd-creds"),
    "wipefs": lambda: a_call("wipefs"),
    "smartctl": lambda: [attempt(health.read_smartctl, "/dev/sda")],
    "nvme": lambda: [attempt(health.read_nvme, "/dev/nvme0")],
    "openssl": lambda: [attempt(service_state.certificate, "/etc/rackwright/mlflow/tls.crt")],
}
"""Readings that use the output of a program, by its name."""


def is_unknown(found: Any) -> bool:
    return isinstance(found, dict) and found.keys() == {"unknown"} and bool(found["unknown"])


@pytest.mark.parametrize("name", READINGS)
def test_a_program_that_sleeps_makes_its_reading_unknown_in_time(name: str, programs: Callable[..., None]) -> None:
    programs(name)
    began = time.monotonic()
    found = READINGS[name]()

    assert found and all(is_unknown(each) for each in found), found
    assert all("did not end within" in str(each) for each in found), found
    assert time.monotonic() - began < 10


def test_every_program_that_the_probe_starts_is_listed_here() -> None:
    called = set()
    for name, source in probe.modules():
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "run_tool":
                first = node.args[0]
                is_text = isinstance(first, ast.Constant)
                called.add(first.value if is_text else f"{name.rpartition('.')[2]}: {ast.unparse(first)}")

    assert called - {"containers: *argv", "health: *argv"} == {*READINGS} - {"ctr", "smartctl"}


def test_a_program_that_has_hung_is_not_started_again(programs: Callable[..., None]) -> None:
    programs("systemctl")
    for argument in "abc":
        [found] = [attempt(observe.run_tool, "systemctl", argument)]
        assert ("not start it again" in found["unknown"]) == (argument != "a")


@pytest.mark.parametrize("name", observe.OF_DEVICES)
def test_a_device_that_hangs_hides_no_other_one(name: str, programs: Callable[..., None]) -> None:
    programs(name, text='#!/bin/sh\n[ "$1" = /dev/sda ] && exec sleep 300\necho "$1"\n')

    assert is_unknown(attempt(observe.run_tool, name, "/dev/sda"))
    assert observe.run_tool(name, "/dev/sdb") == "/dev/sdb\n"
    assert "not start it again" in attempt(observe.run_tool, name, "/dev/sda")["unknown"]


def test_a_program_that_fails_late_counts_as_one_that_hangs(
    programs: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(observe, "SLOW_FAILURE_SECONDS", 0.0)
    programs("kubectl", text="#!/bin/sh\nsleep 0.05\necho no answer >&2\nexit 1\n")

    assert attempt(observe.run_tool, "kubectl", "a")["unknown"] == "kubectl ended with 1: no answer"
    assert attempt(observe.run_tool, "kubectl", "b")["unknown"].endswith("the probe did not start it again")


@pytest.mark.parametrize("text", ["sleep 300 & exec sleep 300", "trap '' TERM; sleep 300 & wait", "sleep 300 & exit 0"])
def test_a_child_that_keeps_the_output_open_keeps_nothing_else(text: str, programs: Callable[..., None]) -> None:
    programs("nft", text=f"#!/bin/sh\n{text}\n")
    began = time.monotonic()
    with pytest.raises(ReadError, match="did not end within"):
        observe.run_tool("nft")

    assert time.monotonic() - began < 10


def test_a_program_that_cannot_be_killed_is_left_behind(
    programs: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that waits for a device in the kernel ends after no signal."""
    started: list[subprocess.Popen[bytes]] = []
    popen = subprocess.Popen
    monkeypatch.setattr(observe.subprocess, "Popen", lambda *a, **k: started.append(popen(*a, **k)) or started[-1])
    monkeypatch.setattr(popen, "kill", lambda process: None)
    programs("nft")
    with pytest.raises(ReadError, match="did not end within"):
        observe.run_tool("nft")

    [process] = started
    assert process.poll() is None
    process.terminate()
    process.wait(10)


def test_the_bounds_are_below_those_of_the_caller() -> None:
    """One that hangs takes a minute, and many ones at the end a second each."""
    assert observe.TOOLS_SECONDS + len(READINGS) * observe.LEAST_SECONDS < pool.PROBE_SECONDS - 20
    for seconds in (units.START_SECONDS, main.INTEGRITY_SECONDS, gpus.NVML_SECONDS, main.LOGIN_KEYS_SECONDS):
        assert seconds <= observe.TOOLS_SECONDS


def test_late_in_a_probe_each_part_has_little_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(observe, "TOOLS_SECONDS", 0.0)
    monkeypatch.setattr(observe, "LEAST_SECONDS", 0.2)
    hanging.begin()
    began = time.monotonic()
    found = isolate.isolate("x", time.sleep, 300)

    assert found == {"unknown": "x: no answer within 0.2 s"}
    assert time.monotonic() - began < 10


def test_a_signature_that_does_not_come_is_unknown(
    programs: Callable[..., None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(proof, "SECONDS", 0.3)
    programs("ssh-keygen")
    began = [("/etc/ssh/x", "text", proof.start("/etc/ssh/x", "text"))]

    assert "did not sign with /etc/ssh/x within 0.3 s" in attempt(proof.end, began)["unknown"]


WHOLE = """
import sys, time
from rackwright.facts.probe import main, observe, isolate, units
observe.ENVIRONMENT["PATH"] = sys.argv[1] + ":/usr/sbin:/usr/bin:/sbin:/bin"
observe.TOOL_SECONDS, observe.TOOLS_SECONDS, observe.LEAST_SECONDS = 1, 12, 0.5
observe.hanging.begin()
began = time.monotonic()
found = main.collect("", b"s" * 16, account_of_files=False)
print(time.monotonic() - began, len(found), "unknown" in str(found["units"]), "unknown" in str(found["users"]))
"""


def test_a_host_whose_programs_all_sleep_still_answers(programs: Callable[..., None], tmp_path: Path) -> None:
    programs(*READINGS, "ssh-keygen", "nvidia-smi", "mdadm")
    argv = [sys.executable, "-c", WHOLE, str(tmp_path)]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=120, check=False)
    seconds, facts, *known = done.stdout.split()

    assert known == ["True", "False"], "what no program reads is known"
    assert float(seconds) < 60 and int(facts) > 80
