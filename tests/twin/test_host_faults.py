"""Faults of a host's own system: the scripts of the guest, run in a namespace here, and the errors."""

import os
import subprocess
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from rackwright.cli import twin as commands
from rackwright.cli import twin_faults
from rackwright.errors import DeclarationError, StepFailed
from rackwright.twin import Twin, host_faults
from tests.support.own_clock import own_clock
from tests.twin.conftest import container, machine

ON_A_SMALL_DISK = """\
mount -t tmpfs -o size=3m none "$1" || exit 77
sh -s -- "$1" < "$2/full" || exit 1
! echo more 2>/dev/null > "$1/more" || exit 2
sh -s -- "$1" < "$2/full" || exit 3
sh -s -- "$1" < "$2/free" || exit 4
echo more > "$1/more" || exit 5
"""


def test_a_full_disk_refuses_writes_until_it_is_freed(tmp_path: Path) -> None:
    """
    The script runs in a mount namespace of its own; a second run changes nothing.
    """
    for name in ("disk", "scripts"):
        (tmp_path / name).mkdir()
    (tmp_path / "scripts/full").write_text(host_faults._FILL)
    (tmp_path / "scripts/free").write_text(host_faults._FREE)

    argv = ["unshare", "--mount", "sh", "-c", ON_A_SMALL_DISK, "sh", str(tmp_path / "disk"), str(tmp_path / "scripts")]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    if done.returncode == 77 or (done.returncode == 1 and os.geteuid() != 0):
        pytest.skip("nothing can be mounted here")

    assert (done.returncode, done.stderr) == (0, "")


def test_only_a_mount_point_is_filled(tmp_path: Path) -> None:
    done = subprocess.run(
        ["sh", "-s", "--", str(tmp_path)], input=host_faults._FILL, capture_output=True, text=True, check=False
    )

    assert (done.returncode, done.stderr) == (1, "nothing is mounted there\n")
    assert [*tmp_path.iterdir()] == []


def test_a_clock_is_set_relative_to_this_computer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[str, ...]] = []
    monkeypatch.setattr(host_faults, "require_power", lambda twin, host: None)
    monkeypatch.setattr(
        host_faults, "run_in_guest", lambda twin, host, script, subject, *rest: calls.append((subject, *rest))
    )
    own_clock(monkeypatch, host_faults, time=lambda: 1_800_000_000.9)

    for seconds in (3600, -60, 0):
        host_faults.skew(Twin(tmp_path, [machine(1)]), "test-01", seconds)

    assert calls == [("clock", "1800003600"), ("clock", "1799999940"), ("clock", "1800000000")]


@pytest.mark.parametrize(
    ("ahead", "passed", "status"),
    [(0, 0, 0), (9, 9, 0), (9, 0, 1), (-1, 0, 1)],
    ids=["at once", "after 9 seconds", "another time", "an earlier time"],
)
def test_a_clock_is_set_however_long_the_guest_takes(ahead: int, passed: int, status: int, tmp_path: Path) -> None:
    uptime, date = tmp_path / "uptime", tmp_path / "date"
    uptime.write_text("100.42 50.00\n")
    date.write_text(f"#!/bin/sh\necho {100 + passed}.42 50.00 > {uptime}\necho {1_800_000_000 + ahead}\n")
    date.chmod(0o755)
    done = subprocess.run(
        ["sh", "-s", "--", "1800000000"],
        input=host_faults._SET_CLOCK.replace("/proc/uptime", str(uptime)),
        env={"PATH": f"{tmp_path}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        check=False,
    )

    assert (done.returncode, done.stderr) == (status, "")


def test_a_container_has_no_clock_and_no_disk_of_its_own(tmp_path: Path) -> None:
    shared = Twin(tmp_path, [container(1)])

    with pytest.raises(DeclarationError, match="only a virtual machine has a clock of its own"):
        host_faults.skew(shared, "test-01", 60)
    for fault in (host_faults.fill, host_faults.free):
        with pytest.raises(DeclarationError, match="only a virtual machine has a disk of its own"):
            fault(shared, "test-01", "/srv/hot")


def test_a_fault_of_a_machine_that_is_off_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(StepFailed, match="the machine is off"):
        host_faults.fill(Twin(tmp_path, [machine(1)]), "test-01", "/srv/hot")


@pytest.mark.parametrize("path", ["srv/hot", "/srv/it's"])
def test_a_disk_needs_an_absolute_mount_point(tmp_path: Path, path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host_faults, "require_power", lambda twin, host: None)

    with pytest.raises(DeclarationError, match="is not a mount point"):
        host_faults.fill(Twin(tmp_path, [machine(1)]), "test-01", path)


@pytest.mark.parametrize(
    ("argv", "done"),
    [
        (("drive-slow", "alpha", "S1"), ("inject", "alpha", "S1", "slow")),
        (("drive-clear", "alpha", "S1"), ("inject", "alpha", "S1", "clear")),
        (("disk-full", "alpha", "/srv/hot"), ("fill", "alpha", "/srv/hot")),
        (("disk-free", "alpha", "/srv/hot"), ("free", "alpha", "/srv/hot")),
        (("clock", "alpha", "3600"), ("skew", "alpha", 3600)),
        (("clock", "--", "alpha", "-60"), ("skew", "alpha", -60)),
        (("clock", "alpha"), ("skew", "alpha", 0)),
        (("component-lost", "alpha", "etcd"), ("lose_component", "alpha", "etcd")),
        (("component-back", "alpha", "etcd"), ("return_component", "alpha", "etcd")),
        (("certificates", "alpha", "30"), ("shorten_certificates", "alpha", 30)),
        (("pull", "alpha", "S1"), ("pull", "alpha", "S1")),
        (("mtu", "alpha", "1400"), ("limit_packet_size", "alpha", 1400)),
        (("mtu", "alpha"), ("limit_packet_size", "alpha", None)),
        (("link-down", "alpha", "now"), "takes no argument, and not now"),
        (("gpu-hot", "alpha", "1"), ("inject", "alpha", 1, "hot")),
        (("component-lost", "alpha"), "needs a component: etcd or"),
        (("gpu-hot", "alpha", "first"), "needs the number of a GPU, and not first"),
        (("power-off", "alpha", "now"), "takes no argument, and not now"),
        (("certificates", "alpha"), "at least 1"),
        (("certificates", "alpha", "0"), "at least 1"),
        (("drive-slow", "alpha"), "needs the serial of a drive"),
        (("disk-full", "alpha"), "needs a path"),
        (("clock", "alpha", "soon"), "takes a number of seconds"),
    ],
)
def test_the_command_calls_the_function_of_each_fault(
    argv: tuple[str, ...], done: tuple[object, ...] | str, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[tuple[object, ...]] = []

    def record(function: Any, twin: None, *arguments: object) -> None:
        called = getattr(function, "func", function)
        calls.append((called.__name__, *arguments, *getattr(function, "keywords", {}).values()))

    recorded = {name: (of, partial(record, function)) for name, (of, function) in twin_faults.FAULTS.items()}
    monkeypatch.setattr(twin_faults, "FAULTS", recorded)
    monkeypatch.setattr(commands, "_twin", lambda name: None)

    result = CliRunner().invoke(commands.app, ["fault", "lab", *argv])

    assert calls == ([] if isinstance(done, str) else [done])
    assert (result.exit_code != 0) is isinstance(done, str)
    assert not isinstance(done, str) or done in " ".join(result.output.replace("│", " ").split())


def test_each_fault_of_the_command_is_in_the_table() -> None:
    assert twin_faults.FAULTS.keys() == {fault.value for fault in commands.Fault}
