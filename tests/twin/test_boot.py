"""Machines that really boot: what a twin promises, seen from inside the guest."""

import json
import subprocess
import time

import pytest

from rackwright.errors import StepFailed
from rackwright.twin import Twin, drive_faults, faults, host_faults
from rackwright.twin.vm.qmp import monitor
from tests.twin.conftest import machine

pytestmark = pytest.mark.twin


def test_the_guest_is_the_machine_that_was_declared(booted):
    """
    Names, serial numbers, buses and NICs are what a real host of that declaration would show.
    """
    drives = json.loads(booted.run("lsblk --json --nodeps --bytes --output SERIAL,TRAN,SIZE,ROTA,WWN"))["blockdevices"]
    seen = {drive["serial"]: drive for drive in drives}
    one = machine(1)

    assert booted.run("hostname") == "test-01"
    assert booted.run("sudo cat /sys/class/dmi/id/product_serial") == "CHASSIS-1"
    assert seen.keys() == {drive.serial for drive in one.drives}
    for drive in one.data_drives:
        found = seen[drive.serial]
        assert (found["tran"], found["size"], found["rota"]) == (drive.bus, drive.size_bytes, drive.rotational)
        assert drive.wwn is None or found["wwn"] == drive.wwn
    assert booted.run("cat /sys/class/net/rack0/address /sys/class/net/rack0/mtu") == "52:54:00:01:00:01\n9000"


def test_the_guest_is_healthy_and_knows_nothing_of_where_it_was_made(booted):
    """
    No unit failed, root stays out, and it has no package source.
    """
    assert booted.run("systemctl is-system-running --wait") == "running"
    assert "permitrootlogin no" in booted.run("sudo sshd -T")
    assert booted.run("cat /etc/apt/sources.list /etc/apt/sources.list.d/* || true") == ""
    assert booted.run("sudo find /etc/apt/apt.conf.d -name '*mmdebstrap*'") == ""


def test_a_drive_that_this_computer_keeps_waiting_is_not_given_up(booted):
    """
    After half a minute, which is the kernel's own limit, it would vanish from its array.
    """
    assert booted.run("cat /sys/module/nvme_core/parameters/io_timeout") == "600"


def test_endpoints_are_enough_to_log_in(booted):
    """
    Address, port, user and key from the file, pinned by known_hosts, and nothing else.
    """
    where = json.loads(booted.twin.layout.endpoints.read_text())["hosts"]["test-02"]
    argv = ["ssh", "-F", "none", "-i", where["key"], "-p", str(where["port"]), "-o", "BatchMode=yes"]
    argv += ["-o", f"UserKnownHostsFile={booted.twin.layout.known_hosts}", "-o", "GlobalKnownHostsFile=none"]
    done = subprocess.run(
        [*argv, "-o", "StrictHostKeyChecking=yes", f"{where['user']}@{where['address']}", "hostname"],
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.stdout == "test-02\n", done.stderr


def test_machines_reach_each_other_over_the_switch(booted):
    """
    Full-size jumbo frames go from one guest to the other.
    """
    for number, host in enumerate((booted.host, booted.other), start=1):
        booted.run(f"sudo ip address replace 192.0.2.{number}/24 dev rack0 && sudo ip link set rack0 up", host)

    lossless = "ping -q -c 3 -s 8900 -M do 192.0.2.2 | grep -o ' 0% packet loss'"
    assert booted.run(lossless) == "0% packet loss"


@pytest.mark.parametrize("serial", ["T1-NVME1", "T1-SAS1"])
def test_a_drive_is_pulled_and_comes_back(booted, serial):
    """
    When the fault returns, the guest sees its effect.
    """
    everything = booted.serials()

    faults.pull(booted.twin, booted.host, serial)
    assert booted.serials() == everything - {serial}

    faults.insert(booted.twin, booted.host, serial)
    assert booted.serials() == everything


def test_a_pulled_drive_stays_out_over_a_power_cut(booted):
    """
    Nobody puts it back by switching off and on; inserted later, it is found although its place was empty.
    """
    everything = booted.serials()
    faults.pull(booted.twin, booted.host, "T1-SAS0")
    faults.pull(booted.twin, booted.host, "T1-NVME0")

    faults.power_off(booted.twin, booted.host)
    assert not booted.twin.is_on(booted.host)
    faults.power_on(booted.twin, booted.host, booted.said.append)
    assert booted.serials() == everything - {"T1-SAS0", "T1-NVME0"}

    faults.insert(booted.twin, booted.host, "T1-SAS0")
    faults.insert(booted.twin, booted.host, "T1-NVME0")
    assert booted.serials() == everything


@pytest.mark.parametrize("serial", ["T1-NVME1", "T1-SAS1"])
@pytest.mark.parametrize("fault", ["read-errors", "write-errors", "slow", "ignore-discard"])
def test_a_drive_errs_or_is_slow_until_it_is_cleared(booted, serial, fault):
    """
    Each returns once the guest sees it; that it is gone again is seen by what clears it.
    """
    drive_faults.inject(booted.twin, booted.host, serial, fault)
    drive_faults.inject(booted.twin, booted.host, serial, "clear")


def test_a_failing_drive_says_so_to_whoever_asks(booted):
    """
    In the log that the probe reads, too.
    """
    drive = "$(ls /dev/disk/by-id/nvme-*T1-NVME1* | head -n 1)"
    ask = f"sudo smartctl --json=c --info --health --attributes {drive} || true"
    drive_faults.inject(booted.twin, booted.host, "T1-NVME1", "failing")
    failing = json.loads(booted.run(ask))
    drive_faults.inject(booted.twin, booted.host, "T1-NVME1", "clear")
    sound = json.loads(booted.run(ask))

    assert [told["smart_status"]["passed"] for told in (failing, sound)] == [False, True]


def test_a_clock_is_wrong_until_it_is_set_right(booted):
    for seconds in (86_400, 0):
        host_faults.skew(booted.twin, booted.host, seconds)
        assert abs(int(booted.run("date +%s")) - time.time() - seconds) < 60


def test_a_full_disk_takes_nothing_until_it_is_freed(booted):
    booted.run("sudo mount -t tmpfs -o size=4m none /mnt")
    host_faults.fill(booted.twin, booted.host, "/mnt")
    assert "No space left on device" in booted.run("sudo dd if=/dev/zero of=/mnt/more bs=1 count=1 2>&1 || true")

    host_faults.free(booted.twin, booted.host, "/mnt")
    booted.run("sudo sh -c 'echo more > /mnt/more' && sudo umount /mnt")


def test_a_power_cut_keeps_what_was_written_and_loses_what_was_not(booted):
    """
    The disks are real: synced data is there again, memory is not.
    """
    booted.run("echo kept > synced && sync && touch /dev/shm/lost")

    faults.power_off(booted.twin, booted.host)
    with pytest.raises(StepFailed, match="it is off"), faults.pause_processor(booted.twin, booted.host):
        pass
    faults.power_on(booted.twin, booted.host, booted.said.append)

    assert booted.run("cat synced; ls /dev/shm") == "kept"


def test_an_array_comes_back_under_its_name_after_a_hard_reset(booted):
    """
    In a new boot it is assembled by udev from a file in mdadm.conf.d, and mounted by its UUID.
    """
    before = booted.run("cat /proc/sys/kernel/random/boot_id")
    booted.run(
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

    faults.hard_reset(booted.twin, booted.host, booted.said.append)

    assert booted.run("cat /proc/sys/kernel/random/boot_id") != before
    assert booted.run("cat /hot/file; readlink -f /dev/md/hot | grep -c ^/dev/md") == "here\n1"


def test_a_paused_machine_does_not_touch_its_disks(booted, eventually):
    """
    A guest that writes all the time stops in the middle, and goes on afterwards.
    """
    disk = booted.twin.layout.disk(booted.host, "T1-SAS0")
    unit = "sudo systemd-run --quiet --unit=busy --property=Type=exec sh -c"
    find = "$(lsblk --nodeps --noheadings --paths --output NAME,SERIAL | awk '/SAS0/ {print $1}')"
    booted.run(f'drive={find}; {unit} "while :; do date +%s.%N | dd of=$drive conv=sync oflag=direct; done"')

    def beginning() -> bytes:
        with disk.open("rb") as file:
            return file.read(512)

    written = beginning()
    eventually(lambda: beginning() != written)

    with faults.pause_processor(booted.twin, booted.host):
        written = disk.read_bytes()
        assert written == disk.read_bytes()
        with monitor(booted.twin.layout.monitor_socket(booted.host), booted.host) as qemu:
            assert qemu.execute("query-status")["status"] == "paused"

    eventually(lambda: beginning() != written[:512])
    booted.run("sudo systemctl stop busy")


def test_starting_again_leaves_alone_what_runs_and_starts_what_is_off(booted):
    """
    One process stays, the other is new, and both keep their ports.
    """
    before = {status.name: status for status in booted.twin.status()}
    faults.power_off(booted.twin, booted.other)
    assert [status.power for status in booted.twin.status()] == [True, False]

    booted.twin.start(booted.said.append)

    after = {status.name: status for status in booted.twin.status()}
    assert after[booted.host] == before[booted.host]
    assert after[booted.other].process != before[booted.other].process
    assert after[booted.other].port == before[booted.other].port


def test_a_machine_that_is_declared_otherwise_is_said_to_need_a_restart(booted):
    """
    A running machine is not changed behind its owner's back.
    """
    said: list[str] = []
    grown = Twin(booted.twin.layout.directory, [machine(1, nvme=3), machine(2, nvme=0, sas=0)])

    grown.start(said.append)

    assert [status.changed for status in grown.status()] == [True, False]
    assert any("test-01" in line and "stop and start" in line for line in said)
    assert "T1-NVME2" not in booted.serials()


def test_stop_keeps_disks_and_reset_makes_them_new(booted):
    """
    After a stop everything is where it was; after a reset it is as on the first day, with the same host key.
    """
    booted.run("echo kept > here", booted.other)
    pins = booted.twin.layout.known_hosts.read_text()

    booted.twin.stop(booted.said.append)
    assert not any(status.power for status in booted.twin.status())
    booted.twin.start(booted.said.append)
    assert booted.run("cat here", booted.other) == "kept"

    booted.twin.reset(booted.said.append)
    assert not booted.twin.layout.disks.exists()
    booted.twin.start(booted.said.append)
    assert booted.run("ls", booted.other) == ""
    assert booted.twin.layout.known_hosts.read_text() == pins
