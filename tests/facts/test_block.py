"""Drives, filesystems and mounts of a fabricated machine, with real superblocks on its images."""

import shutil
import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rackwright.facts.probe import block, encryption
from tests.support.drive_content import ACTIVE, MEMBER, luks_format, member_of_version_1_0, page_80
from tests.support.fabricated_machine import MIB, FabricatedMachine

SAS = "pci0000:00/0000:00:05.0/host0/port-0:0/end_device-0:0/target0:0:0/0:0:0:0"
NVME = "pci0000:00/0000:00:10.0/nvme/nvme0"


@pytest.fixture
def machine(tmp_path):
    return FabricatedMachine(tmp_path)


def drive_of(machine, name):
    return next(drive for drive in block.drives(block.BlockDevices(machine.top)) if drive["name"] == name)


def test_a_sas_drive_reports_its_vital_product_data(machine):
    machine.device("sda", 8 * MIB, SAS)
    machine.write(f"sys/devices/{SAS}/vpd_pg80", page_80(b"  RW01-SAS0 "))
    machine.write(f"sys/devices/{SAS}/model", "ST600MM0088     \n")
    machine.write(f"sys/devices/{SAS}/wwid", "naa.5000c50000000100\n")
    machine.write("sys/block/sda/queue/rotational", "1\n")

    drive = drive_of(machine, "sda")

    assert {key: drive[key] for key in ("path", "serial", "bus", "size_bytes", "rotational", "model", "wwn")} == {
        "path": "/dev/sda",
        "serial": "RW01-SAS0",
        "bus": "sas",
        "size_bytes": 8 * MIB,
        "rotational": True,
        "model": "ST600MM0088",
        "wwn": "naa.5000c50000000100",
    }


def test_namespaces_of_one_controller_have_their_number_in_the_serial(machine):
    machine.write(f"sys/devices/{NVME}/serial", "RW01-NVME0          \n")
    for number in (1, 2):
        machine.device(f"nvme0n{number}", 4 * MIB, NVME)
        machine.write(f"sys/block/nvme0n{number}/nsid", f"{number}\n")
    machine.device("nvme1n1", 4 * MIB, "pci0000:00/0000:00:11.0/nvme/nvme1")
    machine.write("sys/devices/pci0000:00/0000:00:11.0/nvme/nvme1/serial", "RW01-NVME1\n")

    serials = {drive["name"]: drive["serial"] for drive in block.drives(block.BlockDevices(machine.top))}

    assert serials == {"nvme0n1": "RW01-NVME0_1", "nvme0n2": "RW01-NVME0_2", "nvme1n1": "RW01-NVME1"}


def test_a_serial_that_only_udev_knows(machine):
    machine.device("sdb", MIB, "pci0000:00/usb1/1-1/host2/target2:0:0/2:0:0:0", number="8:16")
    machine.write("run/udev/data/b8:16", "N:sdb\nE:ID_BUS=usb\nE:ID_SERIAL_SHORT=USB0001\n")

    drive = drive_of(machine, "sdb")

    assert (drive["serial"], drive["bus"]) == ("USB0001", "usb")


def test_a_drive_without_a_serial_says_so_and_keeps_the_rest(machine):
    machine.device("vda", MIB, "pci0000:00/virtio0")

    drive = drive_of(machine, "vda")

    assert drive["serial"] == {"unknown": "neither vda nor udev reports a serial"}
    assert (drive["bus"], drive["size_bytes"], drive["sample"]) == ("virtio", MIB, [])


@pytest.mark.parametrize(
    ("place", "vendor", "bus"),
    [
        (SAS, "SEAGATE", "sas"),
        (SAS, "ATA     ", "sata"),
        ("pci0000:00/ata1/host1/target1:0:0/1:0:0:0", "ATA", "sata"),
        ("pci0000:00/virtio3/host2/target2:0:0/2:0:0:0", "QEMU", "virtio"),
        ("pci0000:00/0000:00:06.0/host3/target3:2:0/3:2:0:0", "LSI", "scsi"),
    ],
)
def test_the_bus_is_the_drive_s_own(machine, place, vendor, bus):
    machine.device("sda", MIB, place)
    machine.write(f"sys/devices/{place}/vendor", vendor)

    assert drive_of(machine, "sda")["bus"] == bus


def test_an_unlisted_bus_is_unknown(machine):
    machine.device("sda", MIB, "platform/odd")

    assert "is on a bus that the probe does not know" in drive_of(machine, "sda")["bus"]["unknown"]


def test_only_whole_disks_are_drives(machine):
    for name in ("sda", "loop0", "ram0", "zram0", "md127", "dm-0", "sr0", "nbd0", "nvme0c0n1", "sdz"):
        machine.device(name, 0 if name == "sdz" else MIB, f"virtual/{name}")
    machine.write("sys/block/nvme0c0n1/hidden", "1\n")
    machine.write("sys/block/sdz/removable", "1\n")

    assert block.BlockDevices(machine.top).drives == ["sda"]


@pytest.mark.parametrize("mark", block.CONTAINER_MARKS)
def test_a_container_has_only_the_drives_of_its_own_dev(machine, mark):
    """
    sysfs shows a container all drives of its computer.
    """
    machine.device("sda", 8 * MIB, SAS)
    (machine.root / "dev/sda").rename(machine.root / "elsewhere")
    assert block.BlockDevices(machine.top).drives == ["sda"], "a host without the node still has the drive"
    machine.write(mark.lstrip("/"), "")

    assert block.BlockDevices(machine.top).drives == []
    (machine.root / "elsewhere").rename(machine.root / "dev/sda")
    assert block.BlockDevices(machine.top).drives == ["sda"]


def test_a_missing_sys_is_no_machine_without_drives(machine):
    shutil.rmtree(machine.root / "sys/block")

    with pytest.raises(FileNotFoundError):
        block.BlockDevices(machine.top)


def test_users_of_a_drive_and_of_its_partitions_are_found(machine):
    machine.device("sda", 8 * MIB)
    machine.partition("sda", "sda1", 2 * MIB)
    machine.partition("sda", "sda2", 2 * MIB)
    machine.hold("sda2", "dm-3")
    machine.mount("sda1", "/srv/with\\040blank")
    machine.write("proc/swaps", "Filename Type Size Used Priority\n/dev/sda2 partition 1 0 -2\n")

    drive = drive_of(machine, "sda")

    assert drive["partitions"] == ["sda1", "sda2"]
    assert drive["holders"] == ["dm-3"]
    assert drive["mountpoints"] == ["/srv/with blank", "[SWAP]"]
    assert drive["sample"] == {"unknown": "in use by /srv/with blank, [SWAP], dm-3"}


def test_an_unused_array_does_not_hide_the_content_of_its_member(machine):
    """
    udev assembles whatever it finds; a consent must still be able to name it.
    """
    machine.device("sda", 8 * MIB)
    machine.device("md7", 4 * MIB, "virtual/md7")
    machine.hold("sda", "md7")

    assert drive_of(machine, "sda")["sample"] == []
    machine.mount("md7", "/srv/x")
    assert drive_of(machine, "sda")["sample"] == {"unknown": "in use by md7"}


def test_unreadable_mounts_leave_every_use_unknown(machine):
    machine.device("sda", 8 * MIB)
    (machine.root / "proc/self/mountinfo").unlink()

    drive = drive_of(machine, "sda")

    assert "mountinfo" in drive["mountpoints"]["unknown"]
    assert "mountinfo" in drive["sample"]["unknown"]


SIZE = 64 * MIB


BETWEEN = block.sample_places(SIZE)["data"][4]


@pytest.mark.parametrize(
    ("offset", "part"),
    [(0, "first MiB"), (MIB - 1, "first MiB"), (BETWEEN, "data"), (SIZE - MIB, "last MiB"), (SIZE - 1, "last MiB")],
)
def test_data_anywhere_in_the_samples_changes_them(machine, offset, part):
    image = machine.device("sda", SIZE)
    blank = drive_of(machine, "sda")["sample"]
    with image.open("r+b") as file:
        file.seek(offset)
        file.write(b"x")

    once, again = (drive_of(machine, "sda")["sample"] for _ in range(2))

    assert blank == []
    assert once == again
    assert [sample.rpartition(" ")[0] for sample in once] == [part]


def test_the_same_data_elsewhere_is_another_sample(machine):
    image = machine.device("sda", SIZE)
    samples = set()
    for offset in block.sample_places(SIZE)["data"][:2]:
        image.write_bytes(b"")
        with image.open("r+b") as file:
            file.truncate(SIZE)
            file.seek(offset)
            file.write(b"x")
        samples.update(drive_of(machine, "sda")["sample"])

    assert len(samples) == 2


@given(st.integers(0, 1 << 44).map(lambda sectors: sectors * 512))
def test_samples_cover_both_ends_and_lie_between_them(size):
    places = block.sample_places(size)

    assert (places["first MiB"][0], places["last MiB"][-1]) == (0, max(size - block.SAMPLE_BYTES, 0))
    assert all(MIB <= place <= size - MIB - block.SAMPLE_BYTES for place in places["data"])
    assert sum(map(len, places.values())) <= 80


@pytest.mark.parametrize(
    ("argv", "kind"),
    [(("mkfs.ext4", "-q", "-F"), "ext4"), (("mkfs.xfs", "-q"), "xfs"), (("mkswap",), "swap")],
    ids=["ext4", "xfs", "swap"],
)
def test_signatures_are_found(machine, argv, kind):
    subprocess.run([*argv, machine.device("sda", 400 * MIB)], check=True, capture_output=True)

    drive = drive_of(machine, "sda")

    assert [signature["type"] for signature in drive["signatures"]] == [kind]
    assert drive["superblock"] is None
    assert drive["sample"]


def test_a_member_shows_both_its_superblock_and_what_the_array_carries(machine):
    member_of_version_1_0(machine.device("sda", MEMBER["size"]))

    found = block.BlockDevices(machine.top)
    (drive,) = block.drives(found)

    assert {signature["type"] for signature in drive["signatures"]} == {"ext4", "linux_raid_member"}
    assert drive["superblock"]["array_name"] == "gpu-01:sample"
    assert block.filesystems(found) == [], "the filesystem belongs to the array"


def test_a_drive_that_cannot_be_opened_hides_no_other(machine):
    subprocess.run(["mkfs.ext4", "-q", "-F", machine.device("sda", 16 * MIB)], check=True)
    machine.device("sdb", 16 * MIB).unlink()

    found = block.BlockDevices(machine.top).signatures

    assert [signature["type"] for signature in found["sda"]] == ["ext4"]
    assert "wipefs" in found["sdb"]["unknown"]
    assert "wipefs" in drive_of(machine, "sdb")["superblock"]["unknown"]


def test_without_wipefs_signatures_are_unknown(machine, monkeypatch):
    machine.device("sda", 16 * MIB)
    monkeypatch.setattr("rackwright.facts.probe.observe.ENVIRONMENT", {"PATH": "/nowhere"})
    monkeypatch.setenv("PATH", "/nowhere")

    drive = drive_of(machine, "sda")

    assert drive["signatures"] == {"unknown": "wipefs is not installed"}
    assert drive["superblock"] == {"unknown": "wipefs is not installed"}


def test_filesystems_are_those_of_drives_partitions_and_arrays(machine):
    machine.device("sda", 64 * MIB)
    for image in (
        machine.array("md127", ACTIVE, {}, 32 * MIB),
        machine.partition("sda", "sda1", 16 * MIB),
        machine.device("sdb", 16 * MIB),
    ):
        subprocess.run(["mkfs.ext4", "-q", "-F", "-b", "1024", "-E", "stride=16,stripe_width=32", image], check=True)

    found = {filesystem.pop("device"): filesystem for filesystem in block.filesystems(block.BlockDevices(machine.top))}

    assert found.keys() == {"md127", "sda1", "sdb"}
    assert found["md127"] == {
        "type": "ext4",
        "uuid": found["md127"]["uuid"],
        "complete": True,
        "size_bytes": 32 * MIB,
        "stripe_unit_bytes": 16 * 1024,
        "stripe_width_bytes": 32 * 1024,
    }


def test_an_array_is_not_read_before_its_reshape_goes_on(machine):
    """
    What is read there meanwhile is not what is on it.
    """
    image = machine.array("md127", ACTIVE | {"array_state": "read-auto", "reshape_position": "8192"}, {}, 32 * MIB)
    subprocess.run(["mkfs.ext4", "-q", "-F", image], check=True)

    assert block.filesystems(block.BlockDevices(machine.top)) == []


def test_what_is_encrypted_reports_its_header_and_what_is_open_its_filesystem(machine):
    """
    A half-made header is there, and says why it cannot be read; what LVM maps is none of it.
    """
    machine.device("sda", MIB)
    whole, half = machine.array("md127", ACTIVE, {}), machine.array("md126", ACTIVE, {})
    for image in (whole, half):
        luks_format(image)
    with half.open("r+b") as file:
        file.seek(4096)
        file.write(b"none")
    inside = machine.mapping("dm-0", "tier-hot", "CRYPT-LUKS2-0123-tier-hot", "md127")
    subprocess.run(["mkfs.ext4", "-q", "-F", inside], check=True)
    subprocess.run(["mkfs.ext4", "-q", "-F", machine.mapping("dm-1", "vg-lv", "LVM-0123", "sda")], check=True)
    seen = block.BlockDevices(machine.top)

    headers = {header["device"]: header for header in encryption.luks_headers(seen)}
    [mapping] = encryption.mappings(seen)

    assert headers["md127"]["version"] == 2
    assert headers["md126"].keys() == {"device", "uuid", "version", "sequence", "key_slots", "data_offset_bytes"}
    assert "JSONDecodeError" in headers["md126"]["key_slots"]["unknown"]
    assert (mapping["name"], mapping["mapped_name"], mapping["on"]) == ("dm-0", "tier-hot", ["md127"])
    assert [filesystem["device"] for filesystem in block.filesystems(seen)] == ["dm-0"]
    assert block.users_of(seen, "md127") == ["dm-0"]


def test_a_filesystem_of_another_sort_is_there_but_not_known(machine):
    signature = {"type": "btrfs", "uuid": "u", "usage": "filesystem", "offset": 65600, "label": None}

    found = block.filesystem(block.BlockDevices(machine.top), "sda", signature)

    assert (found["type"], found["uuid"]) == ("btrfs", "u")
    assert found["complete"] == found["stripe_unit_bytes"] == {"unknown": "the probe reads only ext4 and xfs"}


def test_mounts_carry_device_and_options_of_both_sorts(machine):
    machine.device("md127", MIB, "virtual/md127")
    machine.mount("md127", "/srv/hot", "xfs", "rw,noatime", "rw,sunit=1024")
    with (machine.root / "proc/self/mountinfo").open("a") as mountinfo:
        mountinfo.write("31 22 0:40 / /srv/data rw - btrfs /dev/md127 rw,space_cache=v2\n")
        mountinfo.write("32 22 0:41 / /mnt/nfs ro,relatime - nfs4 store-1:/data rw,vers=4.2\n")

    found = {mount["target"]: mount for mount in block.mounts(machine.top)}

    assert found["/srv/hot"] == {
        "target": "/srv/hot",
        "root": "/",
        "device": "md127",
        "type": "xfs",
        "options": ["noatime", "rw", "sunit=1024"],
    }
    assert found["/srv/data"]["device"] == "md127"
    assert (found["/mnt/nfs"]["device"], found["/mnt/nfs"]["options"]) == (None, ["relatime", "ro", "vers=4.2"])
    assert found["/dev"]["device"] is None


def test_the_probe_writes_nothing(machine):
    image = machine.device("sda", 16 * MIB)
    subprocess.run(["mkfs.ext4", "-q", "-F", image], check=True)
    before = image.read_bytes(), image.stat().st_mtime_ns
    image.chmod(0o444)

    drive_of(machine, "sda")

    assert (image.read_bytes(), image.stat().st_mtime_ns) == before


def test_a_mounted_xfs_is_as_large_as_the_kernel_says(machine, monkeypatch):
    """
    It has grown, and its superblock will tell of that only later; all but its log is counted.
    """
    image = machine.array("md127", ACTIVE, {}, 512 * MIB)
    subprocess.run(["mkfs.xfs", "-q", "-f", image], check=True)
    [before] = block.filesystems(block.BlockDevices(machine.top))
    assert before["size_bytes"] == 512 * MIB

    machine.mount("md127", "/srv/hot", "xfs", "rw,relatime", "rw")
    monkeypatch.setattr(block, "space", {f"{machine.top}/srv/hot": 1000 * MIB}.__getitem__)
    [after] = block.filesystems(block.BlockDevices(machine.top))
    assert 1000 * MIB < after["size_bytes"] < 1200 * MIB
