"""Drives that wait in a tier: they are put in, take the places of those that fail, and go again."""

import copy
import json
import re

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from rackwright.core import diff as comparison
from rackwright.errors import DeclarationError
from rackwright.facts.facts import Facts
from rackwright.fleet import load_fleet
from tests.support.mutations import array, drive, without
from tests.support.recorded_hosts import FREE, RESOURCES, STACK, recorded

WARM = RESOURCES["willow/warm"]
MEMBERS = [member.serial for member in WARM.spec.members]
[SPARE] = [spare.serial for spare in WARM.spec.spares]
NEW = "WILLOW-SAS9"


@pytest.fixture
def raw():
    return recorded("willow")


def found(raw):
    return array(raw, "willow:warm")


def entry(raw, serial):
    name = drive(raw, serial)["name"]
    return next(each for each in found(raw)["members"] if each["name"] == name)


def arrive(raw, serial=NEW):
    there = copy.deepcopy(drive(raw, SPARE))
    blank = {**FREE, "signatures": [], "witnesses": [], "superblock": None, "sample": [], "holders": []}
    raw["drives"].append({**there, "serial": serial, "name": f"sd{serial[-1]}", **blank})


def leave(raw, serial):
    """Take a spare's place in the array away from it."""
    found(raw)["members"].remove(entry(raw, serial))
    drive(raw, serial).update(FREE, signatures=[], witnesses=[], superblock=None, sample=[], holders=[])


def used(raw, gone=True):
    """The first member has failed, and md has put the spare into its place."""
    slot = entry(raw, MEMBERS[0])["slot"]
    entry(raw, SPARE).update(slot=slot, state=["in_sync"])
    if gone:
        found(raw)["members"].remove(entry(raw, MEMBERS[0]))
        without(raw["drives"], serial=MEMBERS[0])
    else:
        entry(raw, MEMBERS[0]).update(slot=None, state=["faulty"])


def declared(members=MEMBERS, spares=(SPARE,)):
    part = WARM.spec.members[0]
    of = [tuple(part.model_copy(update={"serial": serial}) for serial in serials) for serials in (members, spares)]
    return WARM.spec.model_copy(update=dict(zip(("members", "spares"), of, strict=True)))


def planned(raw, spec=WARM.spec):
    claims, facts = WARM.kind.claims(spec, STACK.repository), Facts(raw)
    return WARM.kind.plan(spec, comparison.diff(claims, WARM.kind.observe(claims, facts)), facts, STACK.repository)


def work(plan):
    """Return what a plan does, without what it notes in the owner file."""
    assert plan.refusals == ()
    return [step.text for step in plan.steps if "owner file" not in step.text]


def refused(plan):
    assert plan.steps == ()
    return "\n".join(str(refusal) for refusal in plan.refusals)


def test_a_new_tier_has_its_spare_from_the_first(raw):
    without(raw["filesystems"], device=found(raw)["name"])
    without(raw["mounts"], device=found(raw)["name"])
    without(raw["arrays"], name=found(raw)["name"])
    for serial in (*MEMBERS, SPARE):
        drive(raw, serial).update(FREE, signatures=[], witnesses=[], superblock=None, sample=[], holders=[])
    del raw["owners"]["tier-warm"]

    [make] = [step for step in planned(raw).steps if step.text.startswith("make the array")]

    assert make.text == f"make the array warm: raid6 over {', '.join(MEMBERS)}, with the spare {SPARE}"
    assert {"--raid-devices=4", "--spare-devices=1"} <= {*make.argv}
    assert make.argv[-5:] == tuple(f"${{drive:{serial}}}" for serial in (*MEMBERS, SPARE))


def test_a_spare_is_put_into_a_tier_that_is_there(raw):
    leave(raw, SPARE)
    raw["owners"]["tier-warm"]["serials"].remove(SPARE)

    plan = planned(raw)

    assert work(plan) == [f"put {SPARE} into warm"]
    assert plan.by_hand == ()


def test_a_drive_with_content_needs_consent_first(raw):
    leave(raw, SPARE)
    drive(raw, SPARE).update(signatures=[{"type": "ext4", "uuid": "u-1", "label": None}], witnesses=["9c1e"])
    raw["owners"]["tier-warm"]["serials"].remove(SPARE)

    assert f"{SPARE}: the drive has 'ext4 u-1 9c1e'" in refused(planned(raw))


def test_a_spare_in_use_is_reported_with_the_next_step(raw):
    """
    The array is whole again by itself: what is missing is another drive to wait.
    """
    used(raw)

    plan = planned(raw)

    assert work(plan) == []
    assert f"{SPARE}, declared as a spare, is in the place of {MEMBERS[0]}" in plan.notes
    by_hand = {item.path: item for item in plan.by_hand if not item.is_unknown}
    assert by_hand.keys() == {"md:willow:warm.members", "md:willow:warm.spares_waiting"}
    assert "rackwright drive replace STACK willow OLD NEW" in by_hand["md:willow:warm.spares_waiting"].remedy


def test_while_it_is_rebuilt_the_state_holds(raw):
    used(raw)
    entry(raw, SPARE)["state"] = ["spare"]
    found(raw).update(degraded=1, sync_action="recover")

    assert {item.name for item in planned(raw).by_hand if not item.is_unknown} == {"members", "spares_waiting"}


def test_the_new_drive_waits_and_nothing_is_copied(raw):
    """
    The spare keeps the place that it has taken: which of a tier's drives wait is md's choice.
    """
    used(raw)
    arrive(raw)
    spec = declared((NEW, *MEMBERS[1:]))
    assert work(planned(raw, spec)) == ["forget the absent members of warm", f"put {NEW} into warm"]

    found(raw)["members"].append({"name": "sd9", "slot": None, "state": ["spare"], "names_array": found(raw)["uuid"]})
    drive(raw, NEW).update(superblock=drive(raw, SPARE)["superblock"])
    raw["owners"]["tier-warm"]["serials"] = [*spec.serials]
    after = planned(raw, spec)
    assert (work(after), after.by_hand) == ([], ())


def test_a_member_that_comes_back_waits(raw):
    """
    Its place is taken, so that no bitmap can help it.
    """
    used(raw, gone=False)

    plan = planned(raw)

    assert work(plan) == ["forget the absent members of warm", f"take {MEMBERS[0]} back into warm"]
    assert "--add" in plan.steps[-1].argv


def test_a_member_that_works_is_replaced_by_the_spare(raw):
    """
    It waits in the array already, and is copied to.
    """
    assert work(planned(raw, declared((SPARE, *MEMBERS[1:]), ()))) == [
        f"copy {MEMBERS[0]} onto {SPARE}, which takes its place in warm",
        f"let {MEMBERS[0]} go once that is done, and erase the md superblock",
    ]


def test_a_member_that_works_is_replaced_beside_a_spare(raw):
    arrive(raw)

    assert work(planned(raw, declared((NEW, *MEMBERS[1:])))) == [
        f"put {NEW} into warm",
        f"copy {MEMBERS[0]} onto {NEW}, which takes its place in warm",
        f"let {MEMBERS[0]} go once that is done, and erase the md superblock",
    ]


@pytest.mark.parametrize("spares", [(), (NEW,)])
def test_a_spare_that_is_declared_no_more_is_taken_out(raw, spares):
    arrive(raw)

    assert work(planned(raw, declared(spares=spares))) == [
        *[f"put {serial} into warm" for serial in spares],
        f"take {SPARE}, which waits, out of warm, and erase its md superblock",
    ]


def test_a_spare_that_becomes_a_member_is_spread_over(raw):
    assert work(planned(raw, declared((*MEMBERS, SPARE), ()))) == [
        "spread warm over 5 members",
        "let the xfs on warm grow once that is done",
    ]


def test_a_tier_with_a_spare_grows_by_another_drive(raw):
    arrive(raw)

    assert work(planned(raw, declared((*MEMBERS, NEW)))) == [
        f"put {NEW} into warm",
        "spread warm over 5 members",
        "let the xfs on warm grow once that is done",
    ]


def test_a_member_cannot_become_a_spare(raw):
    hot = RESOURCES["willow/hot"].spec
    spec = hot.model_copy(update={"members": hot.members[:3], "spares": hot.members[3:]})

    assert "the array has 4 members, and 3 are declared" in refused(planned(raw, spec))


def test_a_spare_comes_to_the_help_of_an_array_that_has_lost_a_member(raw):
    """
    The line of the lost one is still there, and need not be touched first.
    """
    found(raw)["members"].remove(entry(raw, MEMBERS[0]))
    without(raw["drives"], serial=MEMBERS[0])
    found(raw)["degraded"] = 1
    leave(raw, SPARE)
    raw["owners"]["tier-warm"]["serials"].remove(SPARE)

    assert work(planned(raw)) == [f"put {SPARE} into warm"]


def test_a_spare_in_use_is_not_removed_without_a_reason(raw):
    """
    Whether the member that it stands for is gone, or there again and waits for nothing yet.
    """
    without_spare = declared(spares=())
    back = copy.deepcopy(raw)
    used(raw)
    used(back, gone=False)

    assert f"{MEMBERS[0]}: the drive is not in the machine" in refused(planned(raw, without_spare))
    assert f"{SPARE} works, is no longer declared, and has no successor" in refused(planned(back, without_spare))


def test_a_former_member_that_md_has_taken_in_again_is_taken_out(raw):
    """
    As udev may, which finds its superblock when the host starts: it would wait for a place, and be written to.
    """
    arrive(raw)
    found(raw)["members"].append({"name": "sd9", "slot": None, "state": ["spare"], "names_array": found(raw)["uuid"]})
    raw["owners"]["tier-warm"]["former"] = [NEW]

    plan = planned(raw)

    assert work(plan) == [f"take {NEW}, which waits, out of warm, and erase its md superblock"]
    noted = [json.loads(step.content) for step in plan.steps if "owner file" in step.text]
    assert [owner["former"] for owner in noted] == [[NEW], [NEW]]


def test_who_is_replaced_is_noted_as_a_former_member(raw):
    arrive(raw)

    plan = planned(raw, declared((NEW, *MEMBERS[1:])))
    noted = [json.loads(step.content) for step in plan.steps if "owner file" in step.text]

    assert [owner["former"] for owner in noted] == [[MEMBERS[0]], [MEMBERS[0]]]


def test_a_spare_of_another_array_is_not_removed(raw):
    found(raw)["members"].append({"name": "sd9", "slot": None, "state": ["spare"], "names_array": found(raw)["uuid"]})
    arrive(raw)

    assert f"the array has {NEW}, which no owner file names" in refused(planned(raw))


def test_who_waits_is_in_the_report_and_all_go_with_the_tier(raw):
    assert WARM.kind.report(WARM.spec, Facts(raw))["spares"] == [SPARE]

    removed = WARM.kind.removal(WARM.spec, Facts(raw), STACK.repository, consent=True)
    assert f"erase the md superblock on {SPARE}" in [step.text for step in removed.steps]


NAMES = {f"WILLOW-SAS{number}": f"sd{letter}" for number, letter in enumerate("abcdefghi")}


def settle(raw):
    """Let md do what it does by itself: who waits takes the first free place."""
    md = found(raw)
    taken = {each["slot"] for each in md["members"]}
    free = [slot for slot in range(md["devices"]) if slot not in taken]
    waiting = [each for each in md["members"] if each["slot"] is None and each["state"] == ["spare"]]
    for slot, each in zip(free, waiting, strict=False):
        each.update(slot=slot, state=["in_sync"])
    md["degraded"] = max(len(free) - len(waiting), 0)


def obey(raw, plan):
    """Do what the steps say, as md does it, to its end."""
    md = found(raw)
    for step in plan.steps:
        if "owner file" in step.text:
            raw["owners"]["tier-warm"] = json.loads(step.content)
            continue
        serials = [name[1] for word in step.argv if (name := re.fullmatch(r"\$\{drive:(.*)\}", word))]
        names = [NAMES[serial] for serial in serials]
        if "detached" in " ".join(step.argv):
            md["members"] = [each for each in md["members"] if each["state"] != ["faulty"]]
        elif {"--add", "--re-add"} & {*step.argv}:
            waits = {"slot": None, "state": ["spare"], "names_array": md["uuid"]}
            md["members"] += [{"name": name, **waits} for name in names]
            for serial in serials:
                drive(raw, serial)["superblock"] = drive(raw, MEMBERS[3])["superblock"]
        elif "--replace" in step.argv:
            old, new = (entry(raw, serial) for serial in serials)
            new.update(slot=old["slot"], state=["in_sync"])
            md["members"].remove(old)
        elif step.text.startswith("take") and "out of" in step.text:
            md["members"].remove(entry(raw, serials[0]))
        elif grown := re.search(r"--raid-devices=(\d+)", " ".join(step.argv)):
            md["devices"] = int(grown[1])
        settle(raw)


@settings(max_examples=60, deadline=None)
@given(
    lost=st.sets(st.sampled_from(MEMBERS[:3]), max_size=2),
    stay=st.booleans(),
    order=st.permutations([*NAMES][:8]),
    members=st.integers(4, 5),
    spares=st.integers(0, 2),
    kept=st.integers(0, 4),
)
def test_after_any_change_that_is_not_refused_there_is_nothing_left_to_do(lost, stay, order, members, spares, kept):
    """
    Whoever leaves, comes, waits or has failed: one run brings the array to what is declared, and the next does nothing.
    """
    raw = recorded("willow")
    for serial in [*NAMES][5:8]:
        arrive(raw, serial)
        drive(raw, serial)["name"] = NAMES[serial]
    for serial in lost:
        if stay:
            entry(raw, serial).update(slot=None, state=["faulty"])
        else:
            found(raw)["members"].remove(entry(raw, serial))
            without(raw["drives"], serial=serial)
    settle(raw)
    pool = [*MEMBERS[4 - kept :], *(serial for serial in order if serial not in MEMBERS[4 - kept :])]
    spec = declared(tuple(pool[:members]), tuple(pool[members : members + spares]))

    plan = planned(raw, spec)
    assume(not plan.refusals)
    obey(raw, plan)

    again = planned(raw, spec)
    missing = {serial for serial in spec.serials if serial in lost and not stay}
    assert work(again) == []
    assert missing or again.by_hand == ()
    assert {item.thing for item in again.by_hand if not item.is_unknown} <= {"md:willow:warm"}


FLEET = """
fleet: example
hosts:
  alpha:
    address: 192.0.2.1
    identity: {{serial: A1}}
    os: debian-12
    tiers: {{hot: {{level: {level}, filesystem: xfs, mount: /srv/hot}}}}
    drives:
      - {{serial: A, bus: nvme, size: 1TB, tier: hot}}
      - {{serial: B, bus: nvme, size: 1TB, tier: hot}}
      - {{serial: C, bus: nvme, size: {size}, {spare}}}
"""


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"level": "raid5"}, "raid5 needs 3 or more"),
        ({"level": "raid0"}, "RAID0 cannot replace a member"),
        ({"spare": "spare: true"}, "a spare waits in a tier"),
        ({"size": "2TB"}, "other drives of hot have 1TB"),
    ],
)
def test_a_spare_that_cannot_be_is_refused_before_a_host_is_asked(tmp_path, changes, expected):
    """
    It is no member, but has to be as large as one.
    """
    by_hand = {"level": "raid1", "size": "1TB", "spare": "tier: hot, spare: true"}
    path = tmp_path / "example.yaml"
    path.write_text(FLEET.format(**by_hand))
    assert [drive.serial for drive in load_fleet(path, {}).hosts["alpha"].spares("hot")] == ["C"]

    path.write_text(FLEET.format(**{**by_hand, **changes}))
    with pytest.raises(DeclarationError, match=expected):
        load_fleet(path, {})
