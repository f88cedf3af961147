"""Faults of drives: the commands to QEMU, their effect on reads and writes, and the errors.

QEMU's block layer runs here as a daemon of its own, without a machine; test_boot checks the effect in a guest.
"""

import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from rackwright.errors import DeclarationError, StepFailed
from rackwright.twin import Twin, drive_faults
from rackwright.twin.vm.machine import VirtualDrive, disk_nodes
from rackwright.twin.vm.qmp import Monitor, monitor
from tests.twin.conftest import MEGABYTE, container, machine

NVME, SAS = machine(1).drive("T1-NVME0"), machine(1).drive("T1-SAS0")


class FakeMonitor:
    """A monitor that records its commands, and has the nodes, objects and devices that were added."""

    def __init__(self, plugged: str) -> None:
        self.commands: list[tuple[str, Any]] = []
        self._nodes, self._objects, self._plugged = set[str](), set[str](), plugged

    def execute(self, command: str, arguments: Any = None) -> Any:
        if command == "query-named-block-nodes":
            return [{"node-name": name} for name in self._nodes]
        if command == "qom-list":
            return [{"name": name} for name in self._objects | {self._plugged, "objects"}]
        self.commands.append((command, arguments))
        match command:
            case "blockdev-add":
                self._nodes.add(arguments["node-name"])
            case "blockdev-del":
                self._nodes.remove(arguments["node-name"])
            case "object-add":
                self._objects.add(arguments["id"])
            case "object-del":
                self._objects.remove(arguments["id"])
        return None


@pytest.fixture
def commands(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The commands to QEMU and the guest by a fault of the drive NVME or SAS, which are both plugged in."""
    commands: list[Any] = []
    fake_monitor = FakeMonitor(NVME.id)

    @contextmanager
    def open_host_monitor(twin: Twin, host: str, part: str) -> Iterator[FakeMonitor]:
        assert host == "test-01"
        yield fake_monitor

    monkeypatch.setattr(fake_monitor, "commands", commands)
    monkeypatch.setattr(drive_faults, "open_host_monitor", open_host_monitor)
    monkeypatch.setattr(
        drive_faults,
        "run_in_guest",
        lambda twin, host, script, subject, *arguments: commands.append((script, *arguments)),
    )
    return commands


def do(tmp_path: Path, drive: VirtualDrive, fault: str) -> None:
    drive_faults.inject(Twin(tmp_path, [machine(1)]), "test-01", drive.serial, fault)


def test_errors_are_injected_between_the_drive_and_its_disk(commands, tmp_path):
    do(tmp_path, SAS, "read-errors")

    rule = {"event": "none", "iotype": "read", "errno": 5, "immediately": True}
    fault = {"driver": "blkdebug", "node-name": f"{SAS.id}-fault", "image": f"{SAS.id}-file", "inject-error": [rule]}
    node = {"driver": "raw", "node-name": f"{SAS.id}-data", "discard": "unmap", "file": f"{SAS.id}-fault"}
    *qemu, (script, serial) = commands
    assert qemu == [("blockdev-add", fault), ("blockdev-reopen", {"options": [node]})]
    assert serial == "T1-SAS0"
    assert script.endswith('! dd if="/dev/$drive" of=/dev/null bs=4096 count=1 iflag=direct status=none 2>/dev/null\n')


def test_a_fault_replaces_the_previous_fault(commands, tmp_path):
    """
    Clearing leaves no node of either fault.
    """
    do(tmp_path, SAS, "slow")
    do(tmp_path, SAS, "write-errors")
    do(tmp_path, SAS, "clear")
    do(tmp_path, SAS, "clear")

    assert [
        each[0] for each in commands if each[0] in ("blockdev-add", "blockdev-del", "object-add", "object-del")
    ] == [
        *("object-add", "blockdev-add"),
        *("blockdev-del", "object-del", "blockdev-add"),
        "blockdev-del",
    ]
    assert [each[1]["options"][0]["file"].rpartition("-")[2] for each in commands if each[0] == "blockdev-reopen"] == [
        *("fault", "file", "fault", "file")
    ]


def test_ignored_discards_are_a_node_that_drops_them(commands, tmp_path):
    do(tmp_path, SAS, "ignore-discard")

    between = {"driver": "raw", "node-name": f"{SAS.id}-fault", "discard": "ignore", "file": f"{SAS.id}-file"}
    (command, added), _, (script, _serial) = commands
    assert (command, added) == ("blockdev-add", between)
    assert "blkdiscard --force" in script
    assert script.rstrip().endswith("[ $kept = 1 ]")


def test_a_failing_drive_has_a_critical_warning(commands, tmp_path):
    do(tmp_path, NVME, "failing")
    do(tmp_path, NVME, "clear")

    values = [each[1]["value"] for each in commands if each[0] == "qom-set"]
    assert values == [0, 4, 0]
    assert {each[1]["path"] for each in commands if each[0] == "qom-set"} == {f"/machine/peripheral/{NVME.id}"}


def test_a_drive_without_health_report_cannot_fail(tmp_path):
    with pytest.raises(DeclarationError, match="T1-SAS0: a virtual sas drive cannot fail; .*only virtual NVMe drives"):
        do(tmp_path, SAS, "failing")


@pytest.mark.parametrize("fault", drive_faults.FAULTS)
def test_a_fault_needs_a_data_drive_of_a_running_virtual_machine(tmp_path, fault):
    with pytest.raises(DeclarationError, match="the machine has no data drive T1-BOOT"):
        drive_faults.inject(Twin(tmp_path, [machine(1)]), "test-01", "T1-BOOT", fault)
    with pytest.raises(DeclarationError, match="only a virtual machine has drives of its own"):
        drive_faults.inject(Twin(tmp_path, [container(1)]), "test-01", "T1-SAS0", fault)
    with pytest.raises(StepFailed, match="the machine is off"):
        drive_faults.inject(Twin(tmp_path, [machine(1)]), "test-01", "T1-NVME0", fault)


@pytest.mark.parametrize("fault", drive_faults.FAULTS)
def test_the_checks_in_the_guest_are_valid_shell(fault):
    script = drive_faults.DRIVE_WITH_SERIAL + drive_faults.CHECKS[fault]

    subprocess.run(["sh", "-n"], input=script, text=True, check=True)


class Disk:
    """A disk of QEMU's block layer, with a client that reads and writes what its device would."""

    def __init__(self, qemu: Monitor, address: str) -> None:
        self.qemu, self._address = qemu, address

    def works(self, command: str) -> bool:
        argv = ["qemu-io", "-d", "unmap", "-f", "raw", "-c", f"{command} 0 4096", self._address]
        done = subprocess.run(argv, capture_output=True, text=True, check=False)
        return "rror" not in done.stdout + done.stderr

    def seconds(self, reads: int) -> float:
        commands = [word for _ in range(reads) for word in ("-c", "read 0 4096")]
        before = time.monotonic()
        subprocess.run(["qemu-io", "-f", "raw", *commands, self._address], capture_output=True, check=True)
        return time.monotonic() - before


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    if not shutil.which("qemu-storage-daemon"):
        pytest.skip("qemu-storage-daemon is not installed")
    image, control, data = tmp_path / "image", tmp_path / "qmp", tmp_path / "nbd"
    image.write_bytes(b"x" * MEGABYTE)  # a hole would not be read
    file_node, raw_node = disk_nodes(SAS, image)
    argv = ["qemu-storage-daemon", "--chardev", f"socket,path={control},server=on,wait=off,id=qmp"]
    daemon = subprocess.Popen([*argv, "--monitor", "chardev=qmp", "--nbd-server", f"addr.type=unix,addr.path={data}"])
    try:
        while not data.exists():
            assert daemon.poll() is None
            time.sleep(0.01)
        with monitor(control, "the daemon") as qemu:
            for node in (file_node, raw_node):
                qemu.execute("blockdev-add", node)
            export = {
                "type": "nbd",
                "id": "export",
                "node-name": raw_node["node-name"],
                "name": "disk",
                "writable": True,
            }
            qemu.execute("block-export-add", export)
            yield Disk(qemu, f"nbd+unix:///disk?socket={data}")
    finally:
        daemon.terminate()
        daemon.wait()


def test_read_and_write_errors_end_when_cleared(disk):
    for fault, reads, writes in (("read-errors", False, True), ("write-errors", True, False)):
        drive_faults.insert(disk.qemu, SAS, fault)
        assert (disk.works("read"), disk.works("write")) == (reads, writes), fault
        drive_faults.clear(disk.qemu, SAS)
        assert disk.works("read")
        assert disk.works("write")


def test_a_discard_deletes_data_unless_it_is_ignored(disk, tmp_path):
    image = tmp_path / "image"
    drive_faults.insert(disk.qemu, SAS, "ignore-discard")
    assert disk.works("discard")
    assert image.read_bytes() == b"x" * MEGABYTE

    drive_faults.clear(disk.qemu, SAS)
    assert disk.works("discard")
    assert image.read_bytes() == bytes(4096) + b"x" * (MEGABYTE - 4096)


def test_a_slow_drive_serves_few_requests_per_second(disk):
    """
    The first requests may pass at once; requests for two seconds take more than one.
    """
    drive_faults.insert(disk.qemu, SAS, "slow")
    assert disk.seconds(2 * drive_faults.SLOW_IOPS) > 1

    drive_faults.clear(disk.qemu, SAS)
    nodes = disk.qemu.execute("query-named-block-nodes", {"flat": True})
    assert {node["drv"] for node in nodes} == {"raw", "file"}
    drive_faults.insert(disk.qemu, SAS, "slow")  # the throttle group is removed, too
