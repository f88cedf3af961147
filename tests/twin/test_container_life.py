"""Containers that really start, and in `make soak` next to a virtual machine."""

import contextlib
import json
import os
import re
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from rackwright.twin import Container, Twin, VirtualMachine, faults
from rackwright.twin.container.container import cgroup
from tests.twin.conftest import RunningTwin, container, machine
from tests.twin.test_supervisor import is_running, supervisor_pid

pytestmark = [
    pytest.mark.twin,
    pytest.mark.skipif(os.geteuid() != 0, reason="only root can start containers"),
]


@pytest.fixture(scope="module")
def two_containers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningTwin]:
    """Two containers on one switch."""
    with running(tmp_path_factory.mktemp("two"), container(1), container(2)) as twin:
        yield twin


@contextmanager
def running(directory: Path, *hosts: Container | VirtualMachine) -> Iterator[RunningTwin]:
    """Run a twin of *hosts* below *directory*, with an address for each."""
    messages: list[str] = []
    twin = Twin(directory, [*hosts])
    twin.start(messages.append)
    running_twin = RunningTwin(twin, messages)
    for number, host in enumerate(twin.machines, start=1):
        running_twin.run(f"sudo ip address replace 192.0.2.{number}/24 dev rack0 && sudo ip link set rack0 up", host)
    yield running_twin
    twin.stop(messages.append, grace_seconds=0)


@pytest.fixture
def single_container(tmp_path: Path) -> Iterator[RunningTwin]:
    """One container, in a twin of its own."""
    messages: list[str] = []
    twin = Twin(tmp_path, [container(7)])
    twin.start(messages.append)
    yield RunningTwin(twin, messages, host="test-07")
    twin.stop(messages.append, grace_seconds=0)


def boot_id(running_twin: RunningTwin) -> str:
    return running_twin.run("cat /proc/sys/kernel/random/boot_id", running_twin.host)


def test_the_container_matches_its_declaration(two_containers):
    """
    The name, the machine id, and the NICs with their addresses and MTUs.
    """
    assert two_containers.run("hostname") == "test-01"
    assert re.fullmatch("[0-9a-f]{32}", two_containers.run("cat /etc/machine-id"))
    assert two_containers.run("cat /etc/machine-id") != two_containers.run("cat /etc/machine-id", "test-02")
    assert two_containers.run("cat /sys/class/net/rack0/address /sys/class/net/rack0/mtu") == "52:54:00:01:00:01\n9000"
    assert set(two_containers.run("ls /sys/class/net").split()) == {"lo", "rack0"}


def test_the_container_is_healthy_and_has_no_trace_of_the_build(two_containers):
    """
    No unit has failed, root cannot log in, and the container has no package source.
    """
    assert two_containers.run("systemctl is-system-running --wait") == "running"
    assert "permitrootlogin no" in two_containers.run("sudo sshd -T")
    assert two_containers.run("cat /etc/apt/sources.list /etc/apt/sources.list.d/* || true") == ""


def test_a_container_sees_only_its_own_processes(two_containers):
    """
    The first process is the container's systemd; the processes of the twin are invisible.
    """
    assert two_containers.run("cat /proc/1/comm") == "systemd"
    assert "rackwright.twin" not in two_containers.run("sudo cat /proc/[0-9]*/cmdline | tr '\\0' ' '")
    assert "0::/init.scope" in two_containers.run("cat /proc/1/cgroup").splitlines()
    assert cgroup(two_containers.twin.layout, "test-02") not in two_containers.run("sudo find /sys/fs/cgroup -type d")


def check_endpoints(running_twin: RunningTwin) -> None:
    """The endpoints file has an entry of the same form for each host, and known_hosts a key for each port."""
    layout = running_twin.twin.layout
    hosts = json.loads(layout.endpoints.read_text())["hosts"]
    ports = {host: where.pop("port") for host, where in hosts.items()}

    form = {"address": "127.0.0.1", "user": "rackwright", "key": str(layout.key)}
    assert hosts == dict.fromkeys(running_twin.twin.machines, form)
    pins = layout.known_hosts.read_text()
    assert all(f"[127.0.0.1]:{port} ssh-ed25519 " in pins for port in ports.values())


def check_jumbo_frames(running_twin: RunningTwin, sender: int, receiver: int) -> None:
    lossless = f"ping -q -c 3 -s 8900 -M do 192.0.2.{receiver} | grep -o ' 0% packet loss'"
    assert running_twin.run(lossless, f"test-{sender:02d}") == "0% packet loss"


def test_the_endpoints_file_is_enough_to_log_in(two_containers):
    check_endpoints(two_containers)


def test_full_size_jumbo_frames_go_from_one_container_to_the_other(two_containers):
    check_jumbo_frames(two_containers, 1, 2)


@pytest.mark.soak
def test_containers_and_a_virtual_machine_have_one_switch_and_one_form_of_endpoints(tmp_path):
    """
    `make test` has the same of two containers here, and of two machines in `test_boot.py`.
    """
    with running(tmp_path, container(1), machine(2, nvme=0, sas=0)) as mixed:
        check_endpoints(mixed)
        check_jumbo_frames(mixed, 1, 2)
        check_jumbo_frames(mixed, 2, 1)


def test_large_data_passes_the_ssh_port_unchanged(two_containers):
    """
    The data passes in both directions, as the files of a role do.
    """
    data = os.urandom(20_000_000)
    done = subprocess.run(two_containers.twin.ssh("test-02", "cat"), input=data, capture_output=True, check=True)

    assert done.stdout == data


def test_a_container_without_cables_goes_on_unreached_until_they_are_back(two_containers):
    """
    It sees that its link is down. A start of the twin puts forgotten cables back.
    """
    twin, reached = two_containers.twin, "ping -q -c 4 -W 2 192.0.2.1 > /dev/null && echo yes || echo no"
    boot = two_containers.run("cat /proc/sys/kernel/random/boot_id")
    faults.pull_cables(twin, "test-01")
    assert [each.answers for each in twin.status()] == [False, True]
    assert two_containers.run(reached, "test-02") == "no"
    faults.plug_cables(twin, "test-01", two_containers.messages.append)
    assert two_containers.run(reached, "test-02") == "yes"
    assert two_containers.run("cat /proc/sys/kernel/random/boot_id") == boot
    assert "rack0: Lost carrier" in two_containers.run("sudo journalctl --unit systemd-networkd --no-pager")

    faults.pull_cables(twin, "test-01")
    twin.start(two_containers.messages.append)
    assert "test-01: its cables are back in their ports" in two_containers.messages
    assert two_containers.run(reached, "test-02") == "yes"


def test_a_power_cut_keeps_files_of_a_container(single_container):
    """
    A container that is off does not answer; its next boot has the same files.
    """
    single_container.run("echo kept > file && echo lost > /dev/shm/file", single_container.host)
    before = boot_id(single_container)

    faults.power_off(single_container.twin, single_container.host)
    assert [(status.power, status.answers) for status in single_container.twin.status()] == [(False, False)]
    faults.power_on(single_container.twin, single_container.host, single_container.messages.append)

    assert single_container.run("cat file; ls /dev/shm", single_container.host) == "kept"
    assert boot_id(single_container) != before


def test_a_hard_reset_boots_again_on_the_same_port(single_container):
    """
    When the fault returns, the container answers.
    """
    before, port = boot_id(single_container), single_container.twin.settings(single_container.host).port

    faults.hard_reset(single_container.twin, single_container.host, single_container.messages.append)

    assert boot_id(single_container) != before
    assert single_container.twin.settings(single_container.host).port == port


def test_a_container_can_reboot_itself(single_container, eventually):
    """
    As on a machine, the chassis stays, and the system in it boots again.
    """
    before, chassis = boot_id(single_container), single_container.twin.status()[0].process
    subprocess.run(
        single_container.twin.ssh(single_container.host, "sudo systemctl reboot"), capture_output=True, check=False
    )

    def is_new() -> bool:
        done = subprocess.run(
            single_container.twin.ssh(single_container.host, "cat /proc/sys/kernel/random/boot_id"),
            capture_output=True,
            text=True,
        )
        return done.returncode == 0 and done.stdout.strip() != before

    eventually(is_new)
    assert single_container.twin.status()[0].process == chassis
    assert (
        single_container.run("systemctl is-system-running --wait; cat /sys/class/net/rack0/mtu", single_container.host)
        == "running\n9000"
    )


def test_stop_keeps_files_and_reset_deletes_them(single_container):
    """
    After a stop all files are still there; after a reset none, and the identity is the same.
    """
    single_container.run("echo kept > here; sudo touch /etc/there", single_container.host)
    machine_id, pins = (
        single_container.run("cat /etc/machine-id", single_container.host),
        single_container.twin.layout.known_hosts.read_text(),
    )

    single_container.twin.stop(single_container.messages.append)
    assert not any("power is cut" in line for line in single_container.messages)
    single_container.twin.start(single_container.messages.append)
    assert single_container.run("cat here; ls /etc/there", single_container.host) == "kept\n/etc/there"

    single_container.twin.reset(single_container.messages.append)
    assert not single_container.twin.layout.disks.exists()
    single_container.twin.start(single_container.messages.append)
    assert single_container.run("ls; ls /etc/there 2>&1 | grep -o No", single_container.host) == "No"
    assert single_container.run("cat /etc/machine-id", single_container.host) == machine_id
    assert single_container.twin.layout.known_hosts.read_text() == pins


def test_a_container_without_overlay_gets_a_copy(tmp_path, monkeypatch):
    """
    A copy takes longer to make, and works the same.
    """
    monkeypatch.setattr("rackwright.twin.container.backend._OVERLAY_TRIAL", ("false",))
    messages: list[str] = []
    twin = Twin(tmp_path, [container(8)])
    twin.start(messages.append)
    try:
        run = RunningTwin(twin, messages).run
        assert any("test-08: no overlay" in line for line in messages)
        assert run("systemctl is-system-running --wait; findmnt -no FSTYPE /", "test-08").split()[0] == "running"
        assert "overlay" not in run("findmnt -no FSTYPE /", "test-08")
    finally:
        twin.stop(messages.append, grace_seconds=0)


def processes(twin: Twin, host: str) -> set[int]:
    """Return all processes in the control group of *host*, or with the twin's directory on their command line."""
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
            with contextlib.suppress(OSError):  # the process has ended, or may not be read
                found.add(str(Path(f"/proc/{pid}/ns/{kind}").readlink()))
    return found


def inside(spaces: set[str]) -> set[int]:
    """Return all processes of this computer that are in one of these namespaces."""
    pids = (int(process.name) for process in Path("/proc").glob("[0-9]*"))
    return {pid for pid in pids if namespaces({pid}) & spaces}


def groups(twin: Twin, host: str) -> list[Path]:
    """Return the control groups of *host* at all mount points of this computer."""
    mounted = [line.split() for line in Path("/proc/mounts").read_text().splitlines()]
    places = [Path(target) for _, target, filesystem, *_ in mounted if filesystem == "cgroup2"]
    return [place / cgroup(twin.layout, host) for place in places if (place / cgroup(twin.layout, host)).exists()]


@pytest.mark.parametrize("victim", ["supervisor", "chassis"])
def test_nothing_survives_a_kill_of_supervisor_or_chassis(single_container, eventually, victim):
    """
    No process, namespace, control group or port remains, and the next start finds the files.
    """
    twin, host = single_container.twin, single_container.host
    single_container.run("echo kept > file", host)
    network = {path.name for path in Path("/sys/class/net").iterdir()}
    inhabitants = inside(namespaces(processes(twin, host)) - namespaces({os.getpid()}))
    assert inhabitants
    assert groups(twin, host)
    chassis, switch = twin.status()[0].process, twin.control.children()["twin/switch"].pid

    os.kill(chassis if victim == "chassis" else supervisor_pid(twin.layout), signal.SIGKILL)

    survivors = {supervisor_pid(twin.layout), switch} if victim == "chassis" else set()
    eventually(lambda: processes(twin, host) <= survivors)
    eventually(lambda: groups(twin, host) == [])
    # A namespace and its mounts vanish with its last process. The kernel then reuses its number, for example for the
    # twin of a test that runs at the same time, so this checks the processes.
    eventually(lambda: not any(is_running(pid) for pid in inhabitants))
    assert {path.name for path in Path("/sys/class/net").iterdir()} == network
    assert not twin.answers_ssh(host)

    twin.start(single_container.messages.append)
    assert single_container.run("cat file; systemctl is-system-running --wait", host) == "kept\nrunning"
