"""Members added to a tier: what is done, what goes on after an interruption, and what is refused."""

import pytest

from rackwright.facts.facts import Facts
from rackwright.kinds.tier.growth import find_growth
from tests.kinds.tier.conftest import NEW, SERIALS, TIER, arrive, fail, members, owner, planned, refused, texts
from tests.support.mutations import array, drive, filesystem
from tests.support.tier_spec import changed

HOT = TIER.spec.array_key
GROWN = members(*SERIALS, NEW)
LATER = "let the xfs on hot grow once that is done"
AT_ONCE = "let the xfs on hot take all that the array has"


def spare(raw):
    """The new drive was put in, and no more."""
    arrive(raw, holders=["md127"], superblock=drive(raw, SERIALS[0])["superblock"])
    array(raw, HOT)["members"].append(
        {"name": "nvme9n1", "slot": None, "state": ["spare"], "names_array": array(raw, HOT)["uuid"]}
    )
    owner(raw, phase="growing")


def owner_alone(raw):
    """That it will be put in is noted, and no more."""
    arrive(raw)
    owner(raw, phase="growing")


def reshaping(raw, **changes):
    """The array is being spread over the new drive, too."""
    spare(raw)
    array(raw, HOT)["members"][-1].update(slot=4, state=["in_sync"])
    array(raw, HOT).update(devices=5, sync_action="reshape", reshape_position="8192", **changes)


def test_what_is_added_is_put_in_and_the_array_spread_over_it(raw):
    arrive(raw)

    plan = planned(raw, **GROWN)
    assert texts(plan) == [
        "note in the owner file: growing",
        f"put {NEW} into hot",
        "spread hot over 5 members",
        LATER,
        "note in the owner file: ready",
    ]
    assert plan.by_hand == ()
    assert plan.steps[1].expects == {NEW: ""}
    assert plan.notes == (f"{NEW} (nvme, 512MB): blank where it was sampled",)
    argv = ("mdadm", "--grow", f"${{device:{HOT}}}", "--raid-devices=5", "--data-offset=15872K")
    assert plan.steps[2].argv == argv
    assert plan.steps[3].argv[-2:] == ("xfs_growfs", "/srv/hot")


def test_up_waits_where_that_is_declared_and_grows_the_filesystem_itself(raw):
    arrive(raw)

    plan = planned(raw, **GROWN, wait_for_sync=True)
    assert texts(plan)[3:] == ["wait for the sync of hot", AT_ONCE, "note in the owner file: ready"]


def test_an_ext4_is_grown_by_its_own_program(raw):
    arrive(raw)
    filesystem(raw, HOT)["type"] = "ext4"

    [later] = [step for step in planned(raw, **GROWN, filesystem="ext4").steps if "once that is done" in step.text]
    assert later.argv[-2:] == ("resize2fs", f"${{device:{HOT}}}")


def test_a_mirror_gets_one_more_and_no_more_room(raw):
    array(raw, HOT).update(level="raid1", chunk_bytes=0, member_bytes=497472 << 10)  # whole 64 KiB, for want of chunks
    filesystem(raw, HOT).update(stripe_unit_bytes=0, stripe_width_bytes=0)
    arrive(raw)

    steps = texts(planned(raw, **GROWN, level="raid1", chunk_kib=0))
    assert "spread hot over 5 members" in steps and LATER not in steps


def test_one_that_was_put_in_and_no_more_is_spread_to(raw):
    spare(raw)

    assert texts(planned(raw, **GROWN)) == [
        "note in the owner file: growing",
        "spread hot over 5 members",
        LATER,
        "note in the owner file: ready",
    ]


@pytest.mark.parametrize("cut", [owner_alone, spare])
def test_a_growth_that_was_cut_off_waits_for_the_sync_that_follows_a_loss_of_power(raw, cut):
    """
    Nobody knows which stripe was being written, so that md makes copies and parity anew first; only then it can spread.
    """
    cut(raw)
    array(raw, HOT).update(sync_action="resync")

    steps = texts(planned(raw, **GROWN))
    assert steps[-4:-2] == ["wait for the sync of hot", "spread hot over 5 members"]
    assert steps[:-4] == ["note in the owner file: growing", *([] if cut is spare else [f"put {NEW} into hot"])]


def test_a_growth_that_was_cut_off_does_not_wait_for_a_member(raw):
    spare(raw)
    array(raw, HOT).update(sync_action="recover", degraded=1)

    assert "but the array is" in refused(planned(raw, **GROWN))


def test_while_it_is_spread_nothing_differs(raw):
    reshaping(raw)
    owner(raw, phase="ready", serials=sorted([*SERIALS, NEW]))

    plan = planned(raw, **GROWN)
    assert (plan.steps, plan.refusals, plan.by_hand) == ((), (), ())


def test_a_filesystem_that_was_left_behind_is_grown(raw):
    """
    The host was restarted meanwhile, and with it went who would have done it.
    """
    filesystem(raw, HOT)["size_bytes"] -= 256 << 20

    assert texts(planned(raw)) == [AT_ONCE]


def test_a_filesystem_keeps_the_width_that_it_was_made_with(raw):
    reshaping(raw)
    array(raw, HOT).update(sync_action="idle", reshape_position="none")
    owner(raw, phase="ready", serials=sorted([*SERIALS, NEW]))

    assert filesystem(raw, HOT)["stripe_width_bytes"] == 2 * 512 << 10
    assert planned(raw, **GROWN).by_hand == ()


def test_a_reshape_that_has_lost_a_member_is_degraded(raw):
    reshaping(raw)
    fail(raw, SERIALS[0])

    [found] = [each for each in Facts(raw).arrays if each.md_name == HOT]
    assert found.condition == "degraded"


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"sync_action": "resync"}, "but the array is syncing; an array with all members that is at rest"),
        ({"degraded": 1}, "but the array is degraded"),
    ],
)
def test_an_array_that_is_busy_or_not_whole_is_not_grown(change, expected, raw):
    arrive(raw)
    array(raw, HOT).update(change)

    assert expected in refused(planned(raw, **GROWN))


def test_raid0_is_not_grown(raw):
    arrive(raw)
    array(raw, HOT).update(level="raid0", bitmap="none", sync_speed_max_kib=0)

    refusals = refused(planned(raw, **GROWN, level="raid0", bitmap=False))
    assert "md converts RAID0 to RAID4" in refusals and "Declare another tier on the new drives" in refusals


def test_members_are_replaced_first_and_added_then(raw):
    arrive(raw)
    arrive(raw, "RW01-NVME8")

    refusals = refused(planned(raw, **members(*SERIALS[1:], NEW, "RW01-NVME8")))
    assert f"{SERIALS[0]} would leave at the same time" in refusals


def test_an_array_of_unknown_origin_is_not_grown(raw):
    arrive(raw)
    del raw["owners"]["tier-hot"]

    assert "an array that rackwright has made" in refused(planned(raw, **GROWN))


def test_the_content_of_the_new_drive_is_lost_only_by_its_name(raw):
    arrive(raw, signatures=[{"type": "ext4", "uuid": "u-1", "label": None}], witnesses=["9c1e"])
    assert "the drive has 'ext4 u-1 9c1e'" in refused(planned(raw, **GROWN))

    assert f"wipe {NEW}: ext4 u-1 9c1e" in texts(planned(raw, **GROWN, wipe={NEW: "ext4 u-1 9c1e"}))


@pytest.mark.parametrize(
    ("completed", "speed", "expected"),
    [
        ("none", 0, None),
        ("500 / 2000", 0, "25.0 %"),
        ("0 / 7200000", 1000, "0.0 %, 1 h 01 min left"),
        ("7199998 / 7200000", 1000, "100.0 %, 1 min left"),
    ],
)
def test_progress_is_reported_with_the_remaining_time(completed, speed, expected, raw):
    array(raw, HOT).update(sync_completed=completed, sync_speed_kib=speed)

    assert TIER.kind.report(TIER.spec, Facts(raw)).get("progress") == expected


@pytest.mark.parametrize(("offset_kib", "refused_"), [(768, False), (767, True), (512, True), (0, True)])
def test_an_array_without_room_in_front_of_its_data_is_not_spread(offset_kib, refused_, raw):
    """
    md would move stripes in place: cut off in the first of them it lost all but one (mdadm 4.2, Linux 6.1).
    """
    arrive(raw)
    drive(raw, SERIALS[2])["superblock"]["data_offset_bytes"] = offset_kib << 10

    plan = planned(raw, **GROWN)
    assert bool(plan.refusals) == refused_
    if refused_:
        assert "of room before the data; at least 512KiB of room" in refused(plan)
    else:
        assert plan.steps[2].argv[-1] == "--data-offset=256K"


@pytest.mark.parametrize(
    ("level", "before", "after", "need_kib"),
    [
        ("raid10", 4, 5, 512),
        ("raid10", 4, 8, 512),
        ("raid5", 3, 4, 5 * 512),
        ("raid5", 3, 5, 3 * 512),
        ("raid5", 8, 9, 15 * 512),
        ("raid6", 4, 5, 5 * 512),
        ("raid6", 8, 10, 7 * 512),
        ("raid5", 3, 9, 4 * 512),
    ],
)
def test_a_growth_needs_room_for_all_stripes_before_md_first_records_how_far_it_is(level, before, after, need_kib, raw):
    """
    From 8 members to 9 of RAID5 mdadm 4.2 printed a critical section of 56 chunks: 8 of each of 7 drives with data.
    Linux 6.1 recorded the first of its positions after 5 stripes from 3 members to 4: with room for 3 a power cut in
    the first second lost the beginning of the array. From 3 members to 9 whole stripes need more room than that.
    """
    added = [arrive(raw, f"RW01-ADDED{number}") or f"RW01-ADDED{number}" for number in range(after - len(SERIALS))]
    array(raw, HOT).update(level=level, devices=before)
    spec = changed(TIER.spec, level=level, **members(*SERIALS, *added))
    [found] = [each for each in Facts(raw).arrays if each.md_name == HOT]

    assert find_growth(spec, Facts(raw), found).need_kib == need_kib
