"""A machine as a QEMU command line."""

import json
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest

from rackwright.errors import DeclarationError
from rackwright.twin.layout import Layout
from rackwright.twin.vm.machine import VirtualDrive, check, command_line, controllers, drive_device

from .conftest import machine

LAYOUT = Layout(Path("/twins/a,b"))


def devices(argv):
    """Return the devices that are written as JSON in *argv*, by identifier."""
    written = [json.loads(value) for option, value in pairwise(argv) if option == "-device"]
    return {device.get("id", device["driver"]): device for device in written}


def line(of, accelerator="tcg", pulled=()):
    return command_line(of, LAYOUT, Path("/image"), accelerator, 2222, frozenset(pulled))


def test_every_drive_stands_in_its_place_under_its_serial():
    """
    Serial, bus, place and rotation reach the device that the guest sees.
    """
    one = machine(1)
    seen = devices(line(one))

    assert {d["serial"] for d in seen.values() if "serial" in d} == {drive.serial for drive in one.drives}
    assert seen[one.drive("T1-NVME1").id] == {
        "driver": "nvme",
        "id": one.drive("T1-NVME1").id,
        "drive": f"{one.drive('T1-NVME1').id}-data",
        "serial": "T1-NVME1",
        "bus": "slot1",
        "max_ioqpairs": 2,
    }
    sas = seen[one.drive("T1-SAS1").id]
    assert (sas["bus"], sas["scsi-id"], sas["rotation_rate"]) == ("hba0.0", 1, 10500)
    assert sas["wwn"] == 0x5000C50000010001
    assert seen[one.boot_drive.id]["driver"] == "virtio-blk-pci"


def test_a_pulled_drive_leaves_its_place_empty_and_the_others_where_they_are():
    """
    What is pulled is not plugged in; its data stay open, so that it can be inserted.
    """
    one = machine(1)
    whole, without = line(one), line(one, pulled=["T1-NVME0"])

    assert devices(whole).keys() - devices(without).keys() == {one.drive("T1-NVME0").id}
    assert devices(without)[one.drive("T1-NVME1").id]["bus"] == "slot1"
    assert without.count("-blockdev") == whole.count("-blockdev")


def test_the_ninth_sas_drive_gets_an_adapter_of_its_own():
    """
    One adapter has eight places.
    """
    big = machine(1, nvme=0, sas=9)
    hbas = [device["id"] for device in controllers(big)]
    ninth = drive_device(big, big.drive("T1-SAS8"))

    assert hbas == ["hba0", "hba1"]
    assert (ninth["bus"], ninth["scsi-id"]) == ("hba1.0", 0)


def test_pcie_slots_never_collide():
    """
    Twenty-four drives stand at twenty-four addresses.
    """
    addresses = [device["addr"] for device in controllers(machine(1, nvme=24, sas=0))]

    assert len(set(addresses)) == 24


def test_a_comma_in_a_path_is_no_separator():
    """
    QEMU's option lists take a doubled comma for one.
    """
    argv = line(machine(1))

    assert "name=opt/rackwright/seed,file=/twins/a,,b/hosts/test-01/seed.tar" in argv


def test_only_this_computer_reaches_the_guest():
    """
    The forwarded port is bound to the loopback address.
    """
    assert "user,id=management,hostfwd=tcp:127.0.0.1:2222-:22" in line(machine(1))


@pytest.mark.parametrize(
    ("accelerator", "options"),
    [("kvm", ["-accel", "kvm", "-cpu", "host"]), ("tcg", ["-accel", "tcg,thread=multi,tb-size=128", "-cpu"])],
)
def test_the_accelerator_is_the_one_asked_for(accelerator, options):
    """
    Native where it works, translated elsewhere.
    """
    argv = line(machine(1), accelerator)
    start = argv.index("-accel")

    assert argv[start : start + len(options)] == options


@pytest.mark.parametrize("serial", ["X" * 21, "a/b", "a\nb"])
def test_a_serial_that_no_virtual_drive_can_carry_is_refused(serial):
    """
    QEMU would cut it short without a word, and the guest would show another drive.
    """
    one = machine(1)
    odd = replace(one, drives=(*one.drives, VirtualDrive(serial, "nvme", 1)))

    with pytest.raises(DeclarationError, match="at most 20 printable"):
        check(odd)


def test_a_machine_without_a_boot_drive_is_refused():
    """
    Nothing could start it.
    """
    one = machine(1)

    with pytest.raises(DeclarationError, match="no boot drive"):
        check(replace(one, drives=one.data_drives))


def test_the_boot_drive_cannot_be_pulled():
    """
    Only data drives are found by serial; the message names them.
    """
    with pytest.raises(DeclarationError, match="T1-NVME0, T1-NVME1, T1-SAS0, T1-SAS1"):
        machine(1).drive("T1-BOOT")
