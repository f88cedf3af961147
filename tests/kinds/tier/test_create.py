"""The creation of a tier: its steps, and the continuation of one that was cut off."""

import json

import pytest

from rackwright.core.contract import Command, Put
from tests.kinds.tier.conftest import SERIALS, TIER, clear, owner, planned, refused, stop, texts
from tests.support.mutations import drive, without
from tests.support.recorded_hosts import FREE
from tests.support.tier_spec import of_size


def test_blank_drives_become_a_tier(blank):
    plan = planned(blank)

    assert texts(plan) == [
        "note in the owner file: creating",
        f"make the array hot: raid10 over {', '.join(SERIALS)}",
        "make xfs on hot",
        "note in the owner file: creating and formatted",
        "write /etc/mdadm/mdadm.conf.d/hot.conf",
        "write /etc/udev/rules.d/62-tier-hot.rules",
        "write /etc/systemd/system/srv-hot.mount",
        "reload systemd",
        "enable srv-hot.mount",
        "mount /srv/hot",
        "note in the owner file: ready",
    ]
    assert plan.notes == tuple(f"{serial} (nvme, 512MB): blank where it was sampled" for serial in SERIALS)
    assert plan.steps[1].expects == dict.fromkeys(SERIALS, "")
    assert plan.creates


@pytest.mark.parametrize(
    ("level", "size", "asked"),
    [
        ("raid10", 512_000_000, True),
        ("raid5", (16 << 30) - 1, True),
        ("raid6", 16 << 30, False),
        ("raid1", 512_000_000, False),
        ("raid0", 512_000_000, False),
    ],
)
def test_where_stripes_can_move_small_members_have_room_in_front_of_their_data(level, size, asked, blank):
    """
    On larger ones mdadm itself leaves as much.
    """
    drives = of_size(TIER.spec.members, size)
    for part in drives:
        drive(blank, part.serial).update(size_bytes=size)

    argv = planned(blank, level=level, members=drives, **({"chunk_kib": 0} if level == "raid1" else {})).steps[1].argv
    assert ("--data-offset=16384K" in argv) == asked


def test_no_kernel_name_is_ever_planned(blank):
    """
    Drives go by serial until the moment a step runs.
    """
    named = [word for step in planned(blank).steps if isinstance(step, Command) for word in step.argv]

    assert not [word for word in named if word.startswith(("/dev/sd", "/dev/nvme", "/dev/md1"))]


def test_an_initramfs_learns_of_the_array(blank):
    blank["initramfs"] = [{"path": "/boot/initrd.img-6.1.0", "mtime_ns": 1}]

    assert "put it into the initramfs" in texts(planned(blank))


def test_a_small_xfs_has_two_allocation_groups_so_that_its_log_fits(blank):
    """
    The rack's hot tier is RAID10 of four half-gigabyte drives on the twin: 971 MiB. Of terabytes mkfs.xfs knows best.
    """
    [small] = [step for step in planned(blank).steps if isinstance(step, Command) and "mkfs.xfs" in step.argv]

    assert small.argv[-2:] == ("su=512k,sw=2,agcount=2", "${device:gpu-01:hot}")


def test_every_drive_that_carries_something_is_named_at_once(blank):
    for serial in SERIALS[:3]:
        drive(blank, serial)["sample"] = ["data 9c1e"]

    refusals = refused(planned(blank))

    assert [serial for serial in SERIALS if f"{serial}: the drive has" in refusals] == SERIALS[:3]


def test_a_missing_member_is_refused(blank):
    without(blank["drives"], serial=SERIALS[0])

    assert f"{SERIALS[0]}: the drive is not in the machine" in refused(planned(blank))


def test_a_member_of_another_size_is_refused(blank):
    drive(blank, SERIALS[0])["size_bytes"] = 256_000_000

    assert f"{SERIALS[0]}: got size_bytes 256000000" in refused(planned(blank))


@pytest.mark.parametrize("formatted", [False, True])
def test_an_interrupted_making_goes_on(raw, formatted):
    """
    Before it was noted as formatted nothing can be on it, so it is formatted; afterwards never again.
    """
    owner(raw, phase="creating", formatted=formatted)
    without(raw["mounts"], target="/srv/hot")

    steps = texts(planned(raw))

    assert ("make xfs on hot" in steps) is not formatted
    assert not any("make the array" in text for text in steps)
    assert steps[-2:] == ["mount /srv/hot", "note in the owner file: ready"]


def test_a_half_made_array_is_made_again(raw):
    """
    The power went while superblocks were written: the drives carry only what we put there.
    """
    stop(raw)
    clear(raw, SERIALS[3])
    owner(raw, phase="creating")

    steps = texts(planned(raw))

    assert [text.split(":")[0] for text in steps[1:5]] == [
        *(f"wipe {serial}" for serial in SERIALS[:3]),
        "make the array hot",
    ]


def test_a_removed_tier_may_be_made_again(blank):
    owner(blank, phase="removed")

    assert planned(blank).creates


def test_the_owner_file_tells_whose_it_is(blank):
    put = planned(blank).steps[-1]

    assert isinstance(put, Put)
    assert json.loads(put.content) == {
        "id": "gpu-01/hot",
        "fleet": "rack",
        "phase": "ready",
        "serials": SERIALS,
    }


@pytest.mark.parametrize("noted", [True, False])
def test_content_that_no_creation_wrote_needs_consent_in_a_half_made_tier_too(raw, noted):
    """
    Only a superblock of the array, on a drive that the owner file names, shows that the creation wrote to it.
    """
    stop(raw)
    owner(raw, phase="creating", serials=SERIALS if noted else SERIALS[:3])
    if noted:
        signature = {"type": "ext4", "uuid": "3f2a", "label": None}
        drive(raw, SERIALS[3]).update(FREE, signatures=[signature], superblock=None, sample=[])

    assert f"{SERIALS[3]}: the drive has " in refused(planned(raw))
