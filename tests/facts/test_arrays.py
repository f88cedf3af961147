"""The arrays of a fabricated machine, with real superblocks on its images."""

from pathlib import Path
from uuid import UUID

import pytest

from rackwright.facts.probe import arrays, block
from tests.support.drive_content import ACTIVE, MEMBER, member_of_version_1_0
from tests.support.fabricated_machine import MIB, FabricatedMachine


@pytest.fixture
def machine(tmp_path):
    return FabricatedMachine(tmp_path)


def array_of(machine, files, members):
    machine.array("md127", files, members)
    (array,) = arrays.arrays(block.BlockDevices(machine.top))
    return array


def test_an_array_is_read_from_sysfs(machine):
    array = array_of(
        machine,
        ACTIVE
        | {"sync_speed_max": "50000 (local)", "mismatch_cnt": "128", "sync_speed": "1234", "reshape_position": "8192"},
        {"sda": ("0", "in_sync"), "sdb": ("none", "faulty"), "sdc": ("1", "in_sync,write_mostly")},
    )

    for member in array["members"]:
        assert member.pop("names_array").keys() == {"unknown"}, "there are no such devices"
    assert {key: value for key, value in array.items() if key not in ("uuid", "md_name")} == {
        "name": "md127",
        "level": "raid10",
        "devices": 4,
        "chunk_bytes": 524288,
        "metadata": "1.2",
        "bitmap": "internal",
        "ppl": False,
        "member_bytes": 497152 * 1024,
        "size_bytes": 64 * MIB,
        "array_size": "default",
        "array_state": "clean",
        "sync_action": "idle",
        "sync_completed": "none",
        "sync_speed_kib": 1234,
        "sync_speed_max_kib": 50000,
        "sync_min": 0,
        "sync_max": "max",
        "reshape_position": "8192",
        "degraded": 0,
        "mismatch_count": 128,
        "members": [
            {"name": "sda", "slot": 0, "state": ["in_sync"]},
            {"name": "sdb", "slot": None, "state": ["faulty"]},
            {"name": "sdc", "slot": 1, "state": ["in_sync", "write_mostly"]},
        ],
    }


def test_an_array_is_named_by_the_superblock_of_a_member(machine):
    machine.device("sda", MIB).unlink()
    member_of_version_1_0(machine.device("sdb", MEMBER["size"]))

    array = array_of(machine, ACTIVE | {"metadata_version": "1.0"}, {"sda": ("0", "in_sync"), "sdb": ("1", "in_sync")})

    assert f"MD_UUID={array['uuid']}\n" in MEMBER["examined"]
    assert array["md_name"] == "gpu-01:sample"


def test_each_member_says_which_array_it_belongs_to(machine):
    """
    A superblock may go, or become another array's, while md has the member in use.
    """
    offset, superblock = MEMBER["offset"], bytearray.fromhex(MEMBER["superblock"])
    for name in ("sda", "sdb", "sdc", "sdd"):
        member_of_version_1_0(machine.device(name, MEMBER["size"]))
    for name, (place, written) in {"sda": (offset + 16, bytes(16)), "sdb": (offset, bytes(4))}.items():
        with (Path(machine.top) / "dev" / name).open("r+b") as file:
            file.seek(place)
            file.write(written)
    members = {name: (str(slot), "in_sync") for slot, name in enumerate(("sda", "sdb", "sdc", "sdd"))}

    array = array_of(machine, ACTIVE | {"metadata_version": "1.0"}, members)

    assert f"MD_UUID={array['uuid']}\n" in MEMBER["examined"], "most of them say so"
    another = ":".join(["00000000"] * 4)
    assert [member["names_array"] for member in array["members"]] == [another, None, array["uuid"], array["uuid"]]
    assert superblock[:4] == b"\xfc\x4e\x2b\xa9"


def test_the_kernel_knows_which_superblock_is_the_arrays_own(machine):
    """
    Of two members either may be the one with a foreign superblock.
    """
    for name in ("sda", "sdb"):
        member_of_version_1_0(machine.device(name, MEMBER["size"]))
    with (Path(machine.top) / "dev/sda").open("r+b") as file:
        file.seek(MEMBER["offset"] + 16)
        file.write(bytes(16))
    uuid = str(UUID(bytes=bytes.fromhex(MEMBER["superblock"])[16:32]))
    members = {"sda": ("0", "in_sync"), "sdb": ("1", "in_sync")}

    array = array_of(machine, ACTIVE | {"metadata_version": "1.0", "uuid": uuid}, members)

    assert f"MD_UUID={array['uuid']}\n" in MEMBER["examined"]


def test_an_array_without_a_readable_member_has_no_known_name(machine):
    array = array_of(machine, ACTIVE, {})

    assert array["uuid"] == array["md_name"]
    assert "has no members" in array["uuid"]["unknown"]


def test_raid0_has_nothing_to_sync(machine):
    files = {key: ACTIVE[key] for key in ("raid_disks", "chunk_size", "metadata_version", "array_state")}

    array = array_of(machine, files | {"level": "raid0", "component_size": "0"}, {"sda": ("0", "in_sync")})

    keys = ("bitmap", "ppl", "sync_action", "sync_completed", "sync_speed_max_kib", "degraded", "mismatch_count")
    assert [array[key] for key in keys] == ["none", False, "idle", "none", 0, 0, 0]


@pytest.mark.parametrize(
    ("last", "count"),
    [("none", 144), ("check", 144), ("recovery", 144), ("reshape", 144), ("resync", 0), ("repair", 0)],
)
def test_a_pass_that_corrects_leaves_no_mismatch(machine, last, count):
    array = array_of(machine, ACTIVE | {"last_sync_action": last, "mismatch_cnt": "144"}, {"sda": ("0", "in_sync")})

    assert array["mismatch_count"] == count


def test_a_count_of_mismatches_of_an_unknown_pass_is_unknown(machine):
    files = {name: text for name, text in ACTIVE.items() if name != "last_sync_action"}

    assert "unknown" in array_of(machine, files, {"sda": ("0", "in_sync")})["mismatch_count"]


def test_what_is_left_of_a_stopped_array_is_none(machine):
    """
    It has no members, thus no name, and would leave unknown whether it is the one that is looked for.
    """
    machine.array("md126", {"array_state": "clear", "level": "", "raid_disks": "0"}, {})
    machine.array("md127", ACTIVE, {"sda": ("0", "in_sync")})

    assert [array["name"] for array in arrays.arrays(block.BlockDevices(machine.top))] == ["md127"]


def test_what_an_inactive_array_does_not_say_is_unknown(machine):
    files = {"level": "", "raid_disks": "", "chunk_size": "0", "metadata_version": "1.2", "array_state": "inactive"}

    array = array_of(machine, files | {"component_size": "100"}, {"sda": ("none", "spare")})

    assert array["array_state"] == "inactive"
    for key in ("level", "devices", "sync_action", "degraded", "bitmap"):
        assert array[key].keys() == {"unknown"}, key


def test_a_partial_parity_log_is_read_from_sysfs(machine):
    array = array_of(machine, ACTIVE | {"level": "raid5", "consistency_policy": "ppl"}, {"sda": ("0", "in_sync")})

    assert array["ppl"] is True


@pytest.mark.parametrize(
    ("location", "bitmap"), [("+8", "internal"), ("-16", "internal"), ("none", "none"), ("file", "file")]
)
def test_where_a_bitmap_is(location, bitmap):
    assert arrays.bitmap(location) == bitmap


@pytest.mark.parametrize(("text", "cap"), [("200000 (system)", 0), ("50000 (local)", 50000)])
def test_the_cap_of_the_system_is_none_of_the_array(text, cap):
    assert arrays.speed_cap(text) == cap
