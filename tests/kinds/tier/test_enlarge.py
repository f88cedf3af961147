"""Members that are all larger than what is used of them: md takes the rest, once it rests."""

import pytest

from rackwright.core import diff as comparison
from rackwright.facts.facts import Facts
from tests.kinds.tier.conftest import refused, texts
from tests.support.mutations import array, drive
from tests.support.recorded_hosts import FREE, RESOURCES, STACK, recorded
from tests.support.tier_spec import changed, of_size

TIER = RESOURCES["gpu-01/hot"]
HOT = TIER.spec.array_key
NEW = "RW01-NVME7"
LARGER = 2 << 30
KIB = changed(TIER.spec, members=of_size(TIER.spec.members, LARGER)).member_kib


def spec(*serials, **changes):
    """Return the tier, of larger members, the first of which may be others."""
    named = (*serials, *(part.serial for part in TIER.spec.members[len(serials) :]))
    members = tuple(
        part.model_copy(update={"serial": serial, "size": LARGER})
        for serial, part in zip(named, TIER.spec.members, strict=True)
    )
    return changed(TIER.spec, members=members, **changes)


@pytest.fixture
def raw():
    """The host, whose drives are larger by now, and none of whose arrays has noticed."""
    raw = recorded("gpu-01")
    for part in TIER.spec.members:
        drive(raw, part.serial).update(size_bytes=LARGER)
    return raw


def differences(raw, spec):
    claims, facts = TIER.kind.claims(spec, STACK.repository), Facts(raw)
    return comparison.diff(claims, TIER.kind.observe(claims, facts))


def planned(raw, spec):
    return TIER.kind.plan(spec, differences(raw, spec), Facts(raw), STACK.repository)


def used(raw, spec):
    return [item.actual for item in differences(raw, spec) if item.name == "member_kib"]


def arrive(raw):
    """Put a new, blank drive into the machine."""
    old = drive(raw, TIER.spec.members[0].serial)
    blank = {**FREE, "signatures": [], "witnesses": [], "superblock": None, "sample": [], "holders": []}
    raw["drives"].append({**old, **blank, "name": "nvme7n1", "serial": NEW})


def test_the_rest_of_all_members_is_taken(raw):
    plan = planned(raw, spec())
    [step] = [step for step in plan.steps if step.text == "let hot take all of its members"]

    assert texts(plan)[-1] == step.text
    assert step.argv[4:6] == ("${device:gpu-01:hot}", str(KIB))
    assert step.argv[6:] == ("xfs_growfs", "/srv/hot")


def test_it_waits_for_the_copy_onto_the_last_successor(raw):
    arrive(raw)

    steps = texts(planned(raw, spec(NEW)))
    old = TIER.spec.members[0].serial
    gone = steps.index(f"let {old} go once that is done, and erase the md superblock")
    assert gone < steps.index("let hot take all of its members once that is done")
    assert "let hot take all of its members" not in steps
    steps = texts(planned(raw, spec(NEW, wait_for_sync=True)))
    assert steps.index("wait for the sync of hot") < steps.index("let hot take all of its members")


def test_it_waits_for_the_reshape_onto_a_further_member(raw):
    arrive(raw)
    larger = spec()
    further = larger.members[0].model_copy(update={"serial": NEW})
    grown = larger.model_copy(update={"members": (*larger.members, further)})

    steps = texts(planned(raw, grown))
    assert steps.index("spread hot over 5 members") < steps.index("let hot take all of its members once that is done")
    assert "let hot take all of its members" not in steps
    steps = texts(planned(raw, changed(grown, wait_for_sync=True)))
    assert steps.index("wait for the sync of hot") < steps.index("let hot take all of its members")


@pytest.mark.parametrize("busy", ["recover", "resync", "unit"])
def test_what_md_cannot_take_yet_is_no_difference(raw, busy):
    assert used(raw, spec()) == [array(raw, HOT)["member_bytes"] // 1024]
    if busy == "unit":
        raw["units"]["rackwright-enlarge-gpu-01-hot.service"] = {
            "load": "loaded", "active": "active", "enabled": "transient",
        }  # fmt: skip
    else:
        array(raw, HOT).update(sync_action=busy)

    assert used(raw, spec()) == []
    assert "let hot take all of its members" not in texts(planned(raw, spec()))


def test_less_than_is_used_is_a_difference_whatever_md_does(raw):
    array(raw, HOT).update(sync_action="resync")
    array(raw, HOT)["member_bytes"] *= 4

    assert used(raw, TIER.spec) == [array(raw, HOT)["member_bytes"] // 1024]
    assert "declare the size that the drives have" in refused(planned(raw, TIER.spec))


def test_an_array_that_is_not_whole_is_not_enlarged(raw):
    array(raw, HOT).update(degraded=1)
    array(raw, HOT)["members"].pop()

    assert "but the array is degraded; an array with all members" in refused(planned(raw, spec()))
