"""Containers that really start, beside a virtual machine: the same promises, kept by another backend."""

import contextlib
import json
import os
import re
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from rackwright.twin import Twin, faults
from rackwright.twin.container.container import cgroup
from tests.twin.conftest import Booted, container, machine
from tests.twin.test_supervisor import lives, supervisor_of

pytestmark = [
    pytest.mark.twin,
    pytest.mark.skipif(os.geteuid() != 0, reason="containers need root, and this is somebody else"),
]


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Booted]:
    """Two containers and a virtual machine, on one switch."""
    said: list[str] = []
    twin = Twin(tmp_path_factory.mktemp("mixed"), [container(1), container(2), machine(3, nvme=0, sas=0)])
    twin.start(said.append)
    booted = Booted(twin, said)
    for number, host in enumerate(twin.machines, start=1):
        booted.run(f"sudo ip address replace 192.0.2.{number}/24 dev rack0 && sudo ip link set rack0 up", host)
    yield booted
    twin.stop(said.append, grace_seconds=0)


@pytest.fixture
def alone(tmp_path: Path) -> Iterator[Booted]:
    """One container, in a twin of its own."""
    said: list[str] = []
    twin = Twin(tmp_path, [container(7)])
    twin.start(said.append)
    yield Booted(twin, said, host="test-07")
    twin.stop(said.append, grace_seconds=0)


def boot_id(booted: Booted) -> str:
    return booted.run("cat /proc/sys/kernel/random/boot_id", booted.host)


def test_the_container_is_the_host_that_was_declared(mixed):
    """
    Its name, its machine id, and its NICs with their addresses and sizes.
    """
    assert mixed.run("hostname") == "test-01"
    assert re.fullmatch("[0-9a-f]{32}", mixed.run("cat /etc/machine-id"))
    assert mixed.run("cat /etc/machine-id") != mixed.run("cat /etc/machine-id", "test-02")
    assert mixed.run("cat /sys/class/net/rack0/address /sys/class/net/rack0/mtu") == "52:54:00:01:00:01\n9000"
    assert set(mixed.run("ls /sys/class/net").split()) == {"lo", "rack0"}


def test_the_container_is_healthy_and_knows_nothing_of_where_it_was_made(mixed):
    """
    No unit failed, root stays out, and it has no package source.
    """
    assert mixed.run("systemctl is-system-running --wait") == "running"
    assert "permitrootlogin no" in mixed.run("sudo sshd -T")
    assert mixed.run("cat /etc/apt/sources.list /etc/apt/sources.list.d/* || true") == ""


def test_it_sees_no_process_and_no_mount_but_its_own(mixed):
    """
    Its first process is its systemd; what the twin is made of is out of sight.
    """
    assert mixed.run("cat /proc/1/comm") == "systemd"
    assert "rackwright.twin" not in mixed.run("sudo cat /proc/[0-9]*/cmdline | tr '\\0' ' '")
    assert "0::/init.scope" in mixed.run("cat /proc/1/cgroup").splitlines()
    assert cgroup(mixed.twin.layout, "test-02") not in mixed.run("sudo find /sys/fs/cgroup -type d")


def test_endpoints_are_enough_to_log_in(mixed):
    """
    They look as those of a virtual machine do: nobody who reads them can tell.
    """
    hosts = json.loads(mixed.twin.layout.endpoints.read_text())["hosts"]
    ports = {host: where.pop("port") for host, where in hosts.items()}

    assert (
        hosts["test-01"]
        == hosts["test-03"]
        == {
            "address": "127.0.0.1",
            "user": "rackwright",
            "key": str(mixed.twin.layout.key),
        }
    )
    pins = mixed.twin.layout.known_hosts.read_text()
    assert all(f"[127.0.0.1]:{port} ssh-ed25519 " in pins for port in ports.values())


@pytest.mark.parametrize(("sender", "receiver"), [(1, 2), (1, 3), (3, 2)])
def test_full_size_jumbo_frames_go_from_each_to_each(mixed, sender, receiver):
    """
    Container to container, container to virtual machine, and back.
    """
    lossless = f"ping -q -c 3 -s 8900 -M do 192.0.2.{receiver} | grep -o ' 0% packet loss'"

    assert mixed.run(lossless, f"test-{sender:02d}") == "0% packet loss"


def test_much_goes_through_the_port_unharmed(mixed):
    """
    Both ways, as a role's files would.
    """
    data = os.urandom(20_000_000)
    done = subprocess.run(mixed.twin.ssh("test-02", "cat"), input=data, capture_output=True, check=True)

    assert done.stdout == data


def test_a_power_cut_keeps_what_was_written(alone):
    """
    What is off does not answer; on again, it is another boot over the same files.
    """
    alone.run("echo kept > file && echo lost > /dev/shm/file", alone.host)
    before = boot_id(alone)

    faults.power_off(alone.twin, alone.host)
    assert [(status.power, status.answers) for status in alone.twin.status()] == [(False, False)]
    faults.power_on(alone.twin, alone.host, alone.said.append)

    assert alone.run("cat file; ls /dev/shm", alone.host) == "kept"
    assert boot_id(alone) != before


def test_a_hard_reset_is_another_boot_on_the_same_port(alone):
    """
    When the fault returns, the new one answers.
    """
    before, port = boot_id(alone), alone.twin.settings(alone.host).port

    faults.hard_reset(alone.twin, alone.host, alone.said.append)

    assert boot_id(alone) != before
    assert alone.twin.settings(alone.host).port == port


def test_it_can_restart_itself(alone, eventually):
    """
    As a machine does: the chassis stays, and what was inside starts anew.
    """
    before, chassis = boot_id(alone), alone.twin.status()[0].process
    subprocess.run(alone.twin.ssh(alone.host, "sudo systemctl reboot"), capture_output=True, check=False)

    def is_new() -> bool:
        done = subprocess.run(
            alone.twin.ssh(alone.host, "cat /proc/sys/kernel/random/boot_id"), capture_output=True, text=True
        )
        return done.returncode == 0 and done.stdout.strip() != before

    eventually(is_new)
    assert alone.twin.status()[0].process == chassis
    assert alone.run("systemctl is-system-running --wait; cat /sys/class/net/rack0/mtu", alone.host) == "running\n9000"


def test_stop_keeps_files_and_reset_makes_them_new(alone):
    """
    After a stop everything is where it was; after a reset it is as on the first day, with the same identity.
    """
    alone.run("echo kept > here; sudo touch /etc/there", alone.host)
    machine_id, pins = alone.run("cat /etc/machine-id", alone.host), alone.twin.layout.known_hosts.read_text()

    alone.twin.stop(alone.said.append)
    assert not any("power is cut" in line for line in alone.said)
    alone.twin.start(alone.said.append)
    assert alone.run("cat here; ls /etc/there", alone.host) == "kept\n/etc/there"

    alone.twin.reset(alone.said.append)
    assert not alone.twin.layout.disks.exists()
    alone.twin.start(alone.said.append)
    assert alone.run("ls; ls /etc/there 2>&1 | grep -o No", alone.host) == "No"
    assert alone.run("cat /etc/machine-id", alone.host) == machine_id
    assert alone.twin.layout.known_hosts.read_text() == pins


def test_where_no_overlay_can_be_mounted_it_gets_a_copy(tmp_path, monkeypatch):
    """
    It is slower to make, and otherwise the same.
    """
    monkeypatch.setattr("rackwright.twin.container.backend._OVERLAY_TRIAL", ("false",))
    said: list[str] = []
    twin = Twin(tmp_path, [container(8)])
    twin.start(said.append)
    try:
        run = Booted(twin, said).run
        assert any("test-08: no overlay" in line for line in said)
        assert run("systemctl is-system-running --wait; findmnt -no FSTYPE /", "test-08").split()[0] == "running"
        assert "overlay" not in run("findmnt -no FSTYPE /", "test-08")
    finally:
        twin.stop(said.append, grace_seconds=0)


def processes(twin: Twin, host: str) -> set[int]:
    """Return every process in the control group of *host*, or that was told of the twin's directory."""
    found = set()
    for process in Path("/proc").glob("[0-9]*"):
        try:
            words = (process / "cmdline").read_text() + (process / "cgroup").read_text()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if cgroup(twin.layout, host) in words or str(twin.layout.directory) in words:
            found.add(int(process.name))
    return found - {os.getpid()}


def namespaces(pids: set[int]) -> set[str]:
    """Return the namespaces that these processes are in."""
    found = set()
    for pid in pids:
        for kind in ("mnt", "net", "pid", "uts"):
            with contextlib.suppress(OSError):  # gone, or nobody may look
                found.add(str(Path(f"/proc/{pid}/ns/{kind}").readlink()))
    return found


def inside(spaces: set[str]) -> set[int]:
    """Return every process of this computer that is in one of these namespaces."""
    everybody = (int(process.name) for process in Path("/proc").glob("[0-9]*"))
    return {pid for pid in everybody if namespaces({pid}) & spaces}


def groups(twin: Twin, host: str) -> list[Path]:
    """Return the control groups of *host*, wherever this computer mounts them."""
    mounted = [line.split() for line in Path("/proc/mounts").read_text().splitlines()]
    places = [Path(target) for _, target, filesystem, *_ in mounted if filesystem == "cgroup2"]
    return [place / cgroup(twin.layout, host) for place in places if (place / cgroup(twin.layout, host)).exists()]


@pytest.mark.parametrize("victim", ["supervisor", "chassis"])
def test_nothing_outlives_a_kill(alone, eventually, victim):
    """
    No process, namespace, control group or port is left of it; the next start finds its files.
    """
    twin, host = alone.twin, alone.host
    alone.run("echo kept > file", host)
    network = {path.name for path in Path("/sys/class/net").iterdir()}
    inhabitants = inside(namespaces(processes(twin, host)) - namespaces({os.getpid()}))
    assert inhabitants
    assert groups(twin, host)
    chassis, switch = twin.status()[0].process, twin.control.children()["twin/switch"].pid

    os.kill(chassis if victim == "chassis" else supervisor_of(twin.layout), signal.SIGKILL)

    survivors = {supervisor_of(twin.layout), switch} if victim == "chassis" else set()
    eventually(lambda: processes(twin, host) <= survivors)
    eventually(lambda: groups(twin, host) == [])
    # With its last process a namespace goes, and what it had mounted; the kernel then gives its number to another, such
    # as one of a twin of the test beside this, so it is the processes that are asked for.
    eventually(lambda: not any(lives(pid) for pid in inhabitants))
    assert {path.name for path in Path("/sys/class/net").iterdir()} == network
    assert not twin.answers_ssh(host)

    twin.start(alone.said.append)
    assert alone.run("cat file; systemctl is-system-running --wait", host) == "kept\nrunning"
