"""Virtual machines that really boot, checked from inside the guest."""

import json
import subprocess
import time

import pytest

from rackwright.errors import StepFailed
from rackwright.twin import Twin, drive_faults, faults, host_faults
from rackwright.twin import twin as twins
from rackwright.twin.gpu import faults as gpu_faults
from rackwright.twin.vm.qmp import monitor
from tests.support.driver_install import INSTALL
from tests.twin.conftest import OTHER, machine

pytestmark = pytest.mark.twin


def test_the_guest_matches_its_declaration(running_twin):
    """
    Names, serial numbers, buses and NICs are those that a real host with that declaration has.
    """
    drives = json.loads(running_twin.run("lsblk --json --nodeps --bytes --output SERIAL,TRAN,SIZE,ROTA,WWN"))[
        "blockdevices"
    ]
    by_serial = {drive["serial"]: drive for drive in drives}
    one = machine(1)

    assert running_twin.run("hostname") == "test-01"
    assert running_twin.run("sudo cat /sys/class/dmi/id/product_serial") == "CHASSIS-1"
    assert by_serial.keys() == {drive.serial for drive in one.drives}
    for drive in one.data_drives:
        actual = by_serial[drive.serial]
        assert (actual["tran"], actual["size"], actual["rota"]) == (drive.bus, drive.size_bytes, drive.rotational)
        assert drive.wwn is None or actual["wwn"] == drive.wwn
    assert running_twin.run("cat /sys/class/net/rack0/address /sys/class/net/rack0/mtu") == "52:54:00:01:00:01\n9000"


def test_the_guest_is_healthy_and_has_no_trace_of_the_build(running_twin):
    """
    No unit has failed, root cannot log in, and the guest has no package source.
    """
    assert running_twin.run("systemctl is-system-running --wait") == "running"
    assert "permitrootlogin no" in running_twin.run("sudo sshd -T")
    assert running_twin.run("cat /etc/apt/sources.list /etc/apt/sources.list.d/* || true") == ""
    assert running_twin.run("sudo find /etc/apt/apt.conf.d -name '*mmdebstrap*'") == ""


def test_the_guest_waits_ten_minutes_for_a_slow_drive(running_twin):
    """
    After half a minute, the kernel's default, the drive would vanish from its array.
    """
    assert running_twin.run("cat /sys/module/nvme_core/parameters/io_timeout") == "600"


def test_the_endpoints_file_is_enough_to_log_in(running_twin):
    """
    A login needs only the address, port, user and key in the file, and known_hosts.
    """
    endpoint = json.loads(running_twin.twin.layout.endpoints.read_text())["hosts"]["test-02"]
    argv = ["ssh", "-F", "none", "-i", endpoint["key"], "-p", str(endpoint["port"]), "-o", "BatchMode=yes"]
    argv += ["-o", f"UserKnownHostsFile={running_twin.twin.layout.known_hosts}", "-o", "GlobalKnownHostsFile=none"]
    done = subprocess.run(
        [*argv, "-o", "StrictHostKeyChecking=yes", f"{endpoint['user']}@{endpoint['address']}", "hostname"],
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.stdout == "test-02\n", done.stderr


def test_machines_reach_each_other_over_the_switch(running_twin):
    """
    Full-size jumbo frames go from one guest to the other.
    """
    for number, host in enumerate((running_twin.host, running_twin.other), start=1):
        running_twin.run(f"sudo ip address replace 192.0.2.{number}/24 dev rack0 && sudo ip link set rack0 up", host)

    lossless = "ping -q -c 3 -s 8900 -M do 192.0.2.2 | grep -o ' 0% packet loss'"
    assert running_twin.run(lossless) == "0% packet loss"


@pytest.mark.parametrize("serial", ["T1-NVME1", "T1-SAS1"])
def test_a_drive_is_pulled_and_comes_back(running_twin, serial):
    """
    When the fault returns, the guest sees its effect.
    """
    everything = running_twin.serials()

    faults.pull(running_twin.twin, running_twin.host, serial)
    assert running_twin.serials() == everything - {serial}

    faults.insert(running_twin.twin, running_twin.host, serial)
    assert running_twin.serials() == everything


def test_a_power_cut_keeps_synced_data_and_pulled_drives_and_loses_memory(running_twin):
    """
    Synced data is on the disk after the next start; memory is empty. Switching off and on does not put drives back: the
    guest finds them when they are inserted into their empty places later. The start starts only the machine that is
    off: its process is new, the other one stays, and both machines keep their ports.
    """
    everything = running_twin.serials()
    faults.pull(running_twin.twin, running_twin.host, "T1-SAS0")
    faults.pull(running_twin.twin, running_twin.host, "T1-NVME0")
    running_twin.run("echo kept > synced && sync && touch /dev/shm/lost")
    before = {status.name: status for status in running_twin.twin.status()}

    faults.power_off(running_twin.twin, running_twin.host)
    assert [status.power for status in running_twin.twin.status()] == [False, True]
    with (
        pytest.raises(StepFailed, match="the machine is off"),
        faults.pause_processor(running_twin.twin, running_twin.host),
    ):
        pass
    running_twin.twin.start(running_twin.messages.append)

    after = {status.name: status for status in running_twin.twin.status()}
    assert after[running_twin.other].process == before[running_twin.other].process
    assert after[running_twin.other].port == before[running_twin.other].port
    assert after[running_twin.host].process != before[running_twin.host].process
    assert after[running_twin.host].port == before[running_twin.host].port
    assert running_twin.run("cat synced; ls /dev/shm") == "kept"
    assert running_twin.serials() == everything - {"T1-SAS0", "T1-NVME0"}
    faults.insert(running_twin.twin, running_twin.host, "T1-SAS0")
    faults.insert(running_twin.twin, running_twin.host, "T1-NVME0")
    assert running_twin.serials() == everything


@pytest.mark.parametrize("serial", ["T1-NVME1", "T1-SAS1"])
def test_each_drive_fault_replaces_the_one_before_until_it_is_cleared(running_twin, serial):
    """
    Each injection returns once the guest sees the fault; clearing returns once the fault is gone. The guest reads the
    drive to see failed writes, and writes to see ignored discards: what failed before succeeds again.
    """
    for fault in ("read-errors", "write-errors", "slow", "ignore-discard", "clear"):
        drive_faults.inject(running_twin.twin, running_twin.host, serial, fault)


def test_a_failing_drive_reports_its_health_to_smartctl(running_twin):
    """
    The probe reads the same log.
    """
    drive = "$(ls /dev/disk/by-id/nvme-*T1-NVME1* | head -n 1)"
    ask = f"sudo smartctl --json=c --info --health --attributes {drive} || true"
    drive_faults.inject(running_twin.twin, running_twin.host, "T1-NVME1", "failing")
    failing = json.loads(running_twin.run(ask))
    drive_faults.inject(running_twin.twin, running_twin.host, "T1-NVME1", "clear")
    sound = json.loads(running_twin.run(ask))

    assert [report["smart_status"]["passed"] for report in (failing, sound)] == [False, True]


def test_a_clock_fault_lasts_until_it_is_cleared(running_twin):
    for seconds in (86_400, 0):
        host_faults.skew(running_twin.twin, running_twin.host, seconds)
        assert abs(int(running_twin.run("date +%s")) - time.time() - seconds) < 60


def test_a_machine_without_cables_goes_on_unreached_until_they_are_back(running_twin):
    twin = running_twin.twin
    boot = running_twin.run("cat /proc/sys/kernel/random/boot_id")
    faults.pull_cables(twin, "test-01")
    assert [each.answers for each in twin.status()] == [False, True]
    faults.plug_cables(twin, "test-01", running_twin.messages.append)
    assert running_twin.run("cat /proc/sys/kernel/random/boot_id") == boot
    assert "Lost carrier" in running_twin.run("sudo journalctl --boot --unit systemd-networkd --no-pager")


def test_a_full_disk_refuses_writes_until_it_is_freed(running_twin):
    running_twin.run("sudo mount -t tmpfs -o size=4m none /mnt")
    host_faults.fill(running_twin.twin, running_twin.host, "/mnt")
    assert "No space left on device" in running_twin.run("sudo dd if=/dev/zero of=/mnt/more bs=1 count=1 2>&1 || true")

    host_faults.free(running_twin.twin, running_twin.host, "/mnt")
    running_twin.run("sudo sh -c 'echo more > /mnt/more' && sudo umount /mnt")


def test_an_array_keeps_its_name_over_a_hard_reset(running_twin):
    """
    In a new boot udev assembles the array from a file in mdadm.conf.d, and systemd mounts it by its UUID.
    """
    before = running_twin.run("cat /proc/sys/kernel/random/boot_id")
    running_twin.run(
        "set -e; drives=$(lsblk --nodeps --noheadings --paths --output NAME,SERIAL | awk '/NVME/ {print $1}')\n"
        "sudo mdadm --create /dev/md/hot --run --name=test-01:hot --level=1 --raid-devices=2 --metadata=1.2 $drives\n"
        "sudo mkfs.ext4 -q /dev/md/hot\n"
        "sudo mkdir -p /etc/mdadm/mdadm.conf.d /hot\n"
        "sudo mdadm --detail --brief /dev/md/hot | sudo tee /etc/mdadm/mdadm.conf.d/hot.conf\n"
        "uuid=$(sudo blkid -o value -s UUID /dev/md/hot)\n"
        'printf "[Mount]\\nWhat=/dev/disk/by-uuid/$uuid\\nWhere=/hot\\n[Install]\\nWantedBy=local-fs.target\\n" '
        "| sudo tee /etc/systemd/system/hot.mount\n"
        "sudo systemctl enable --now hot.mount; echo here | sudo tee /hot/file; sync"
    )

    faults.hard_reset(running_twin.twin, running_twin.host, running_twin.messages.append)

    assert running_twin.run("cat /proc/sys/kernel/random/boot_id") != before
    assert running_twin.run("cat /hot/file; readlink -f /dev/md/hot | grep -c ^/dev/md") == "here\n1"


def test_a_silent_guest_is_reset_and_its_console_says_where_its_processor_was(running_twin, monkeypatch):
    """
    A guest without its SSH server is as silent as one that hangs at its start.
    """
    monkeypatch.setattr(twins, "HANG_SECONDS", 1)
    running_twin.run("sudo systemctl stop ssh.service ssh.socket", running_twin.other)

    running_twin.twin.wait(running_twin.messages.append, [running_twin.other], just_started=[running_twin.other])
    running_twin.twin.power_on(running_twin.other, running_twin.messages.append)  # its GPU again

    assert running_twin.run("hostname", running_twin.other) == running_twin.other
    console = running_twin.twin.console(running_twin.other).read_text()
    assert console.count("Silent, and reset.") == 1 and "RIP=" in console


def test_a_paused_machine_does_not_write_to_its_disks(running_twin, eventually):
    """
    A guest that writes all the time stops writing, and continues after the pause.
    """
    disk = running_twin.twin.layout.disk(running_twin.host, "T1-SAS0")
    unit = "sudo systemd-run --quiet --unit=busy --property=Type=exec sh -c"
    find = "$(lsblk --nodeps --noheadings --paths --output NAME,SERIAL | awk '/SAS0/ {print $1}')"
    running_twin.run(f'drive={find}; {unit} "while :; do date +%s.%N | dd of=$drive conv=sync oflag=direct; done"')

    def beginning() -> bytes:
        with disk.open("rb") as file:
            return file.read(512)

    written = beginning()
    eventually(lambda: beginning() != written)

    with faults.pause_processor(running_twin.twin, running_twin.host):
        written = disk.read_bytes()
        assert written == disk.read_bytes()
        with monitor(running_twin.twin.layout.monitor_socket(running_twin.host), running_twin.host) as qemu:
            assert qemu.execute("query-status")["status"] == "paused"

    eventually(lambda: beginning() != written[:512])
    running_twin.run("sudo systemctl stop busy")


def test_a_gpu_of_a_machine_is_lost_and_its_kernel_log_remembers_it(running_twin):
    """
    A message in the kernel log stays until the next start, as on a real host.
    """
    twin, other = running_twin.twin, running_twin.other
    running_twin.run(INSTALL, other)
    gpu_faults.inject(twin, other, 0, "lost")
    assert gpu_faults.probe_gpus(twin, other).gpus[0].condition == "lost"

    gpu_faults.inject(twin, other, 0, "clear")

    facts = gpu_faults.probe_gpus(twin, other)
    assert (facts.gpus[0].condition, [xid.code for xid in facts.xids]) == ("working", [79])
    assert 0 <= facts.taken_at - facts.xids[0].at < 600


def test_a_changed_declaration_asks_for_a_restart(running_twin):
    """
    A start does not change a running machine.
    """
    messages: list[str] = []
    grown = Twin(running_twin.twin.layout.directory, [machine(1, nvme=3), OTHER])

    grown.start(messages.append)

    assert [status.changed for status in grown.status()] == [True, False]
    assert any("test-01" in line and "stop and start" in line for line in messages)
    assert "T1-NVME2" not in running_twin.serials()


def test_stop_keeps_disks_and_reset_deletes_them(running_twin):
    """
    After a stop all files are still there; after a reset none, and the host key is the same.

    `test_container_life.py` starts a host after a reset; a machine would boot once more for it.
    """
    twin, other = running_twin.twin, running_twin.other
    running_twin.run("echo kept > here", other)
    pins = twin.layout.known_hosts.read_text()

    twin.stop(running_twin.messages.append)
    assert not any(status.power for status in twin.status())
    faults.power_on(twin, other, running_twin.messages.append)
    assert running_twin.run("cat here", other) == "kept"

    twin.reset(running_twin.messages.append)
    assert not twin.layout.disks.exists()
    assert twin.layout.known_hosts.read_text() == pins
