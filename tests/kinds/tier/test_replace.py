"""Members of a tier replaced by other drives: what is done, what goes on after an interruption, and what is refused."""

import pytest

from rackwright.facts.facts import Facts
from tests.kinds.tier.conftest import NEW, SERIALS, TIER, arrive, fail, member, members, owner, planned, refused, texts
from tests.support.mutations import array, drive, without
from tests.support.recorded_hosts import STACK
from tests.support.tier_spec import changed

OLD, KEPT, *OTHERS = SERIALS
WAITS = "rackwright-replace-gpu-01-hot.service"
"""What lets the old one go when it is copied."""
WAITING = {"load": "loaded", "active": "active", "enabled": "transient"}


def copying(raw):
    """OLD is being copied onto NEW."""
    arrive(raw, holders=["md127"])
    slot = member(raw, OLD)["slot"]
    member(raw, OLD)["state"] = ["in_sync", "want_replacement"]
    found = array(raw, "gpu-01:hot")
    found["members"].append(
        {"name": "nvme9n1", "slot": slot, "state": ["spare", "replacement"], "names_array": found["uuid"]}
    )
    found["sync_action"] = "recover"
    raw["units"][WAITS] = WAITING


def restarted(raw):
    """The host starts anew in the middle: md goes on, and of what was to be it tells only who has the same place."""
    member(raw, OLD)["state"] = ["in_sync"]
    del raw["units"][WAITS]


def found_members(raw, *serials):
    """Return who is in the array, where *serials* are declared."""
    spec = changed(TIER.spec, **members(*serials))
    claims = TIER.kind.claims(spec, STACK.repository)
    return TIER.kind.observe(claims, Facts(raw))["md:gpu-01:hot"]["members"]


def test_one_that_works_is_copied_before_it_goes(raw):
    arrive(raw)

    plan = planned(raw, **members(NEW, KEPT, *OTHERS))
    assert texts(plan) == [
        "note in the owner file: replacing",
        f"put {NEW} into hot",
        f"copy {OLD} onto {NEW}, which takes its place in hot",
        f"let {OLD} go once that is done, and erase the md superblock",
        "note in the owner file: ready",
    ]
    assert plan.by_hand == ()
    assert plan.steps[1].expects == {NEW: ""}
    assert plan.notes == (f"{NEW} (nvme, 512MB): blank where it was sampled",)
    assert plan.steps[2].argv[-4:] == ("--replace", f"${{drive:{OLD}}}", "--with", f"${{drive:{NEW}}}")


def test_up_waits_for_the_copy_where_that_is_declared(raw):
    arrive(raw)

    plan = planned(raw, **members(NEW, KEPT, *OTHERS), wait_for_sync=True)
    assert texts(plan)[-2:] == ["wait for the sync of hot", "note in the owner file: ready"]


@pytest.mark.parametrize("gone", [True, False])
def test_one_that_is_lost_is_rebuilt_on_the_new_one(raw, gone):
    fail(raw, OLD)
    arrive(raw)
    if gone:
        without(raw["drives"], serial=OLD)

    assert texts(planned(raw, **members(NEW, KEPT, *OTHERS))) == [
        "note in the owner file: replacing",
        "forget the absent members of hot",
        f"put {NEW} into hot",
        "note in the owner file: ready",
    ]


def test_two_that_are_lost_are_rebuilt_together(raw):
    two = (OLD, OTHERS[1])
    for number, serial in enumerate(two):
        fail(raw, serial)
        arrive(raw, f"RW01-NVME{8 + number}")

    plan = planned(raw, **members("RW01-NVME8", KEPT, OTHERS[0], "RW01-NVME9"))
    [added] = [step for step in plan.steps if step.text.startswith("put")]
    assert added.argv[-3:] == ("--add", "${drive:RW01-NVME8}", "${drive:RW01-NVME9}")


def test_while_it_is_copied_nothing_differs(raw):
    """
    Declared is the successor, and the array is as whole as before.
    """
    copying(raw)
    owner(raw, phase="ready", serials=sorted([NEW, KEPT, *OTHERS]))

    plan = planned(raw, **members(NEW, KEPT, *OTHERS))
    assert (plan.refusals, plan.by_hand) == ((), ())
    # it is looked at once more whether somebody lets the old one go
    assert texts(plan)[1:-1] in ([], [f"let {OLD} go once that is done, and erase the md superblock"])


def test_who_is_let_go_loses_the_superblock_of_that_array_alone(raw):
    arrive(raw)

    [step] = [step for step in planned(raw, **members(NEW, KEPT, *OTHERS)).steps if step.text.startswith("let")]
    assert step.text == f"let {OLD} go once that is done, and erase the md superblock"
    old = f"${{drive-if-present:{OLD}}}"
    assert step.argv[-3:] == ("${device:gpu-01:hot}", array(raw, "gpu-01:hot")["uuid"], old)
    assert (step.when_at_rest.array, f"{step.when_at_rest.unit}.service") == ("gpu-01:hot", WAITS)


@pytest.mark.parametrize("done", [False, True])
def test_after_a_restart_in_the_middle_of_a_copy_the_old_one_is_let_go_all_the_same(raw, done):
    """
    md goes on with the copy, and what waited for its end is gone: the old drive would stay in use for nothing.
    """
    copying(raw)
    restarted(raw)
    owner(raw, phase="ready", serials=sorted([NEW, KEPT, *OTHERS]))
    if done:
        member(raw, NEW)["state"] = ["in_sync"]
        member(raw, OLD).update(state=["faulty"], slot=None)

    plan = planned(raw, **members(NEW, KEPT, *OTHERS))
    assert texts(plan) == [f"let {OLD} go once that is done, and erase the md superblock"]
    assert (plan.refusals, plan.by_hand) == ((), ())

    raw["units"][WAITS] = WAITING
    assert found_members(raw, NEW, KEPT, *OTHERS) == tuple(sorted([NEW, KEPT, *OTHERS]))


@pytest.mark.parametrize("cut", [False, True])
def test_a_copy_that_was_begun_goes_on_after_an_interruption(raw, cut):
    """
    Whether it was `up` that was interrupted, or the host as well.
    """
    copying(raw)
    if cut:
        restarted(raw)
    owner(raw, phase="replacing")

    assert texts(planned(raw, **members(NEW, KEPT, *OTHERS))) == [
        "note in the owner file: replacing",
        f"let {OLD} go once that is done, and erase the md superblock",
        "note in the owner file: ready",
    ]
    raw["units"][WAITS] = WAITING
    assert found_members(raw, NEW, KEPT, *OTHERS) == tuple(sorted([NEW, KEPT, *OTHERS]))


def test_one_that_was_put_in_and_no_more_is_copied_to(raw):
    """
    Interrupted between the two: the new one is a spare of the array.
    """
    arrive(raw, holders=["md127"], superblock=drive(raw, OLD)["superblock"])
    array(raw, "gpu-01:hot")["members"].append(
        {"name": "nvme9n1", "slot": None, "state": ["spare"], "names_array": array(raw, "gpu-01:hot")["uuid"]}
    )
    owner(raw, phase="replacing")

    assert texts(planned(raw, **members(NEW, KEPT, *OTHERS))) == [
        "note in the owner file: replacing",
        f"copy {OLD} onto {NEW}, which takes its place in hot",
        f"let {OLD} go once that is done, and erase the md superblock",
        "note in the owner file: ready",
    ]


def test_a_former_member_that_stays_in_the_machine_blocks_nothing(raw):
    """
    Its superblock still tells of the array, which has gone on without it.
    """
    arrive(raw)
    old, new = drive(raw, OLD), drive(raw, NEW)
    new.update(superblock={**old["superblock"], "events": 99}, signatures=old["signatures"], holders=["md127"])
    for serial in (KEPT, *OTHERS):
        drive(raw, serial)["superblock"]["events"] = 99
    member(raw, OLD)["name"] = "nvme9n1"
    old["holders"] = []
    owner(raw, phase="ready", serials=sorted([NEW, KEPT, *OTHERS]))

    plan = planned(raw, **members(NEW, KEPT, *OTHERS))
    assert (plan.steps, plan.refusals) == ((), ())


def test_the_content_of_the_new_drive_is_lost_only_by_its_name(raw):
    arrive(raw, signatures=[{"type": "ext4", "uuid": "u-1", "label": None}], witnesses=["9c1e"])
    assert "the drive has 'ext4 u-1 9c1e'" in refused(planned(raw, **members(NEW, KEPT, *OTHERS)))

    given_up = planned(raw, **members(NEW, KEPT, *OTHERS), wipe={NEW: "ext4 u-1 9c1e"})
    assert f"wipe {NEW}: ext4 u-1 9c1e" in texts(given_up)


def test_a_former_member_comes_back_as_any_other_drive_does(raw):
    """
    What it was a member of has gone on without it: what it carries has to be given up.
    """
    former = {name: drive(raw, OLD)[name] for name in ("superblock", "signatures")}
    arrive(raw, **former, witnesses=["9c1e"])
    owner(raw, phase="ready")

    refusals = refused(planned(raw, **members(NEW, KEPT, *OTHERS)))
    assert f"{NEW}: the drive has 'linux_raid_member" in refusals


def test_the_new_one_has_to_be_there(raw):
    assert f"{NEW}: the drive is not in the machine" in refused(planned(raw, **members(NEW, KEPT, *OTHERS)))


def test_what_works_stays_while_another_is_missing(raw):
    """
    A drive that comes now is taken for the missing one, whatever was meant.
    """
    fail(raw, KEPT)
    arrive(raw)

    refusals = refused(planned(raw, **members(NEW, KEPT, *OTHERS)))
    assert f"{OLD} works, and would be replaced while a member is missing" in refusals


def test_the_missing_one_and_one_that_works_are_replaced_one_after_the_other(raw):
    fail(raw, KEPT)
    arrive(raw, "RW01-NVME8")
    arrive(raw)

    refusals = refused(planned(raw, **members("RW01-NVME8", NEW, *OTHERS)))
    assert f"replaced while {KEPT} is missing" in refusals


def test_no_member_is_taken_away(raw):
    arrive(raw)

    assert "the array has 4 members, and 3 are declared" in refused(planned(raw, **members(*SERIALS[:3])))


def test_raid0_has_no_member_to_spare(raw):
    arrive(raw)
    array(raw, "gpu-01:hot").update(level="raid0")

    assert "which is raid0; all members of a raid0" in refused(
        planned(raw, **members(NEW, KEPT, *OTHERS), level="raid0")
    )


def test_an_array_of_unknown_origin_keeps_its_members(raw):
    arrive(raw)
    del raw["owners"]["tier-hot"]

    refusals = refused(planned(raw, **members(NEW, KEPT, *OTHERS)))
    assert f"the array has {OLD}, which no owner file names as a member; the declared members {NEW}" in refusals
