"""The QEMU command line of a machine."""

import json
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest

from rackwright.errors import DeclarationError, SetupError
from rackwright.schema import Fleet
from rackwright.twin import Twin
from rackwright.twin.fleet import build_twin
from rackwright.twin.layout import Layout
from rackwright.twin.settings import TwinSettings
from rackwright.twin.vm.backend import VirtualMachines
from rackwright.twin.vm.machine import (
    VirtualDrive,
    VirtualMachine,
    check,
    command_line,
    controllers,
    drive_device,
    tpm_command_line,
)
from tests.twin.conftest import machine

LAYOUT = Layout(Path("/twins/a,b"))


def devices(argv):
    """Return the JSON devices in *argv*, by identifier."""
    devices = [json.loads(value) for option, value in pairwise(argv) if option == "-device"]
    return {device.get("id", device["driver"]): device for device in devices}


def line(one, accelerator="tcg", pulled=()):
    return command_line(one, LAYOUT, Path("/image"), accelerator, 2222, frozenset(pulled))


def test_each_drive_has_its_serial_and_its_place():
    """
    The device in the guest has the serial, bus, place and rotation of the drive.
    """
    one = machine(1)
    by_id = devices(line(one))

    assert {d["serial"] for d in by_id.values() if "serial" in d} == {drive.serial for drive in one.drives}
    assert by_id[one.drive("T1-NVME1").id] == {
        "driver": "nvme",
        "id": one.drive("T1-NVME1").id,
        "drive": f"{one.drive('T1-NVME1').id}-data",
        "serial": "T1-NVME1",
        "bus": "slot1",
        "max_ioqpairs": 2,
    }
    sas = by_id[one.drive("T1-SAS1").id]
    assert (sas["bus"], sas["scsi-id"], sas["rotation_rate"]) == ("hba0.0", 1, 10500)
    assert sas["wwn"] == 0x5000C50000010001
    assert by_id[one.boot_drive.id]["driver"] == "virtio-blk-pci"


def test_a_pulled_drive_moves_no_other_drive():
    """
    A pulled drive has no device; its data stays open, so that the drive can be inserted.
    """
    one = machine(1)
    whole, without = line(one), line(one, pulled=["T1-NVME0"])

    assert devices(whole).keys() - devices(without).keys() == {one.drive("T1-NVME0").id}
    assert devices(without)[one.drive("T1-NVME1").id]["bus"] == "slot1"
    assert without.count("-blockdev") == whole.count("-blockdev")


def test_the_ninth_sas_drive_gets_an_adapter_of_its_own():
    """
    An adapter has eight places.
    """
    big = machine(1, nvme=0, sas=9)
    hbas = [device["id"] for device in controllers(big)]
    ninth = drive_device(big, big.drive("T1-SAS8"))

    assert hbas == ["hba0", "hba1"]
    assert (ninth["bus"], ninth["scsi-id"]) == ("hba1.0", 0)


def test_pcie_slots_never_collide():
    """
    Twenty-four drives have twenty-four addresses.
    """
    addresses = [device["addr"] for device in controllers(machine(1, nvme=24, sas=0))]

    assert len(set(addresses)) == 24


def test_a_comma_in_a_path_is_doubled():
    """
    QEMU's option lists read a doubled comma as one comma.
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
def test_the_command_line_has_the_chosen_accelerator(accelerator, options):
    """
    A guest runs natively with KVM, and translated with TCG.
    """
    argv = line(machine(1), accelerator)
    start = argv.index("-accel")

    assert argv[start : start + len(options)] == options


def test_a_translated_guest_keeps_its_memory_barriers():
    """
    QEMU before 8.1 omits them if a machine can have only one processor.
    """
    argv = line(machine(1), "tcg")

    assert argv[argv.index("-smp") + 1] == "1,maxcpus=2"


@pytest.mark.parametrize("serial", ["X" * 21, "a/b", "a\nb"])
def test_a_serial_that_no_virtual_drive_can_carry_is_refused(serial):
    """
    QEMU would shorten it without an error, and the guest would show another serial.
    """
    one = machine(1)
    odd = replace(one, drives=(*one.drives, VirtualDrive(serial, "nvme", 1)))

    with pytest.raises(DeclarationError, match="at most 20 printable"):
        check(odd)


def test_a_machine_without_a_boot_drive_is_refused():
    """
    A machine starts from its boot drive.
    """
    one = machine(1)

    with pytest.raises(DeclarationError, match="the machine has no boot drive"):
        check(replace(one, drives=one.data_drives))


def test_the_boot_drive_cannot_be_pulled():
    """
    Only data drives can be named by serial; the message lists them.
    """
    with pytest.raises(DeclarationError, match="T1-NVME0, T1-NVME1, T1-SAS0, T1-SAS1"):
        machine(1).drive("T1-BOOT")


def test_only_a_machine_with_a_tpm_has_its_devices():
    """
    QEMU connects to the TPM's socket, and starts the kernel from vmlinuz, which detects the TPM.
    """
    argv, without = line(replace(machine(1), tpm=True)), line(machine(1))

    assert devices(argv)["tpm-tis"] == {"driver": "tpm-tis", "tpmdev": "tpm"}
    assert f"socket,id=tpm,path={LAYOUT.tpm_socket('test-01')}" in argv
    assert f"type=unixio,path={LAYOUT.tpm_socket('test-01')},mode=0600" in tpm_command_line(machine(1), LAYOUT)
    assert [each[each.index("-kernel") + 1] for each in (argv, without)] == ["/image/vmlinuz", "/image/vmlinux"]
    assert "tpm" not in " ".join(without)


def test_the_state_of_a_tpm_is_private_and_beside_the_disks(layout):
    """
    A reset deletes the state, like a new mainboard; a stop keeps it.
    """
    one, backend = replace(machine(1), tpm=True), VirtualMachines(layout)

    assert backend.helper_commands(machine(1)) == {}
    [(socket, argv)] = backend.helper_commands(one).items()

    assert (socket, argv) == (layout.tpm_socket("test-01"), tpm_command_line(one, layout))
    assert layout.tpm("test-01").is_relative_to(layout.disks)
    assert oct(layout.tpm("test-01").stat().st_mode) == "0o40700"


def test_without_swtpm_a_machine_with_a_tpm_is_refused_and_others_are_not(layout, monkeypatch):
    monkeypatch.setattr("shutil.which", lambda program, path: None if program == "swtpm" else program)

    VirtualMachines(layout).require([machine(1)])
    with pytest.raises(SetupError, match="are missing: swtpm.*apt-get install swtpm"):
        VirtualMachines(layout).require([machine(1), replace(machine(2), tpm=True)])


def test_a_tpm_needs_an_image_with_vmlinuz(layout, tmp_path):
    """
    A boot drive keeps its old image, which has no vmlinuz.
    """
    one, old = replace(machine(1), tpm=True), tmp_path / "old"
    old.mkdir()
    (old / "root.img").touch()
    boot = layout.boot_disk(one.name, one.boot_drive.serial)
    boot.parent.mkdir(parents=True)
    boot.touch()
    TwinSettings(layout.settings(one.name)).update(image=str(old))

    with pytest.raises(SetupError, match="twin reset"):
        VirtualMachines(layout).prepare([one], print)


@pytest.mark.parametrize("sealed", [True, False])
def test_a_host_has_a_tpm_if_a_tier_seals_its_key(tmp_path, sealed):
    tier = {"level": "raid1", "filesystem": "xfs", "mount": "/srv/hot"}
    host = {
        "address": "192.0.2.1",
        "identity": {"serial": "CHASSIS-1"},
        "os": "debian-12",
        "drives": [{"serial": f"D{number}", "bus": "nvme", "size": "512MB", "tier": "hot"} for number in range(2)],
        "tiers": {"hot": {**tier, "encryption": {"key": {"secret": "hot_key"}, "tpm2": sealed}}},
    }
    fleet = Fleet.model_validate_json(json.dumps({"fleet": "example", "hosts": {"alpha": host}}))

    host_machine = build_twin("example", tmp_path, fleet).machine("alpha")

    assert isinstance(host_machine, VirtualMachine)
    assert host_machine.tpm is sealed


@pytest.mark.parametrize(
    ("roles", "memory_mib", "processors"),
    [
        ({}, 768, "1"),
        ({"base": {}, "kubernetes_node": {}}, 1536, "1"),
        ({"kubernetes_node": {}, "kubernetes_control_plane": {}}, 2560, "2"),
    ],
)
def test_a_node_of_a_cluster_has_the_memory_and_the_processors_for_it(tmp_path, roles, memory_mib, processors):
    host = {"address": "192.0.2.1", "identity": {"serial": "CHASSIS-1"}, "os": "debian-12", "roles": roles}
    fleet = Fleet.model_validate_json(json.dumps({"fleet": "example", "hosts": {"alpha": host}}))
    made = build_twin("example", tmp_path, fleet).machine("alpha")
    assert isinstance(made, VirtualMachine)

    argv = line(made, "kvm")

    assert argv[argv.index("-m") + 1] == str(memory_mib)
    assert argv[argv.index("-smp") + 1] == processors


@pytest.mark.parametrize(
    ("written", "declared", "notice"),
    [(None, ["deb a"], False), (["deb a"], ["deb a"], False), ([], ["deb a"], True), (["deb a"], [], True)],
)
def test_changed_package_sources_need_new_disks(tmp_path, written, declared, notice):
    """
    The first boot writes them, so that a stop and a start change nothing.
    """
    one = replace(machine(1), mirrors=tuple(declared))
    twin = Twin(tmp_path / "lab", [one])
    twin.settings(one.name).update(sources=written)

    text = twin._sources_notice(one)

    assert bool(text) == notice
    assert not notice or "`rackwright twin reset lab` deletes its disks" in text
