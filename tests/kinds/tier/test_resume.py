"""A reshape that was cut off: md goes on with it, and its content is seen afterwards."""

from tests.kinds.tier.conftest import NEW, SERIALS, arrive, members, owner, planned, refused, texts
from tests.kinds.tier.test_grow import GROWN, HOT, LATER, reshaping
from tests.support.mutations import array, without


def test_a_spreading_that_was_begun_and_not_noted_is_noted(raw):
    reshaping(raw)

    assert texts(planned(raw, **GROWN)) == [
        "note in the owner file: replacing",
        LATER,
        "note in the owner file: ready",
    ]


def test_an_abandoned_spread_is_continued(raw):
    """
    After a loss of power: the superblocks say how far it is, and md rests.
    """
    reshaping(raw)
    array(raw, HOT).update(sync_action="idle")
    owner(raw, phase="ready", serials=sorted([*SERIALS, NEW]))

    plan = planned(raw, **GROWN)
    assert texts(plan) == ["go on with the reshape of hot", LATER]
    assert plan.by_hand == ()


def test_what_is_on_an_array_is_seen_once_its_reshape_goes_on(raw):
    """
    Until then RAID10 is read where nothing is any more (Linux 6.1): the host has not found what to mount.
    """
    reshaping(raw)
    found = array(raw, HOT)
    found.update(sync_action="idle", array_state="read-auto")
    without(raw["filesystems"], device=found["name"])
    without(raw["mounts"], device=found["name"])
    owner(raw, phase="ready", serials=sorted([*SERIALS, NEW]))

    plan = planned(raw, **GROWN)
    assert texts(plan) == ["go on with the reshape of hot", LATER, "mount /srv/hot"]
    assert (plan.refusals, plan.by_hand) == ((), ())


def test_no_member_is_replaced_before_the_reshape_has_ended(raw):
    reshaping(raw)
    array(raw, HOT).update(sync_action="idle")
    arrive(raw, "RW01-NVME8")

    refusals = refused(planned(raw, **members("RW01-NVME8", *SERIALS[1:], NEW)))
    assert "members would be replaced while the array is interrupted" in refusals


def test_no_array_is_enlarged_before_the_reshape_has_ended(raw):
    reshaping(raw)
    array(raw, HOT).update(sync_action="idle")
    owner(raw, phase="ready", serials=sorted([*SERIALS, NEW]))
    array(raw, HOT)["member_bytes"] //= 2

    assert "but the array is interrupted; an array with all members" in refused(planned(raw, **GROWN))
