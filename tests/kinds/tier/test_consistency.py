"""A bitmap or a partial parity log: how it is made, changed and reported in a tier of RAID5."""

import pytest

from rackwright.core import diff as comparison
from rackwright.core.contract import Command
from rackwright.facts.facts import Facts
from rackwright.kinds.tier import consistency
from tests.support.mutations import array, drive
from tests.support.recorded_hosts import RESOURCES, STACK, recorded
from tests.support.tier_spec import changed, of_size

TIER = RESOURCES["gpu-02/warm"]
PPL = {"ppl": True, "bitmap": False}


@pytest.fixture
def raw():
    return recorded("gpu-02")


def planned(raw, **changes):
    spec = changed(TIER.spec, **changes)
    claims, facts = TIER.kind.claims(spec, STACK.repository), Facts(raw)
    return TIER.kind.plan(spec, comparison.diff(claims, TIER.kind.observe(claims, facts)), facts, STACK.repository)


def commands(plan):
    assert not plan.refusals
    return [
        " ".join(step.argv[3:])
        for step in plan.steps
        if isinstance(step, Command) and step.argv[:2] == ("mdadm", "--grow")
    ]


def test_it_is_made_with_one_of_both():
    assert consistency.option(TIER.spec) == "--bitmap=internal"
    assert consistency.option(changed(TIER.spec, **PPL)) == "--consistency-policy=ppl"
    assert consistency.option(changed(TIER.spec, bitmap=False)) == "--bitmap=none"


def test_the_bitmap_goes_before_a_log_comes(raw):
    assert commands(planned(raw, **PPL)) == ["--bitmap=none", "--consistency-policy=ppl"]


def test_the_log_goes_before_a_bitmap_comes(raw):
    array(raw, "gpu-02:warm").update(ppl=True, bitmap="none")

    assert commands(planned(raw)) == ["--consistency-policy=resync", "--bitmap=internal"]
    assert commands(planned(raw, **PPL)) == []


@pytest.mark.parametrize(("found", "declared"), [(True, True), (True, False), (False, True)])
def test_no_member_is_added_beside_a_log(raw, found, declared):
    """
    md refuses such a reshape, and would have the new drive as a spare by then.
    """
    array(raw, "gpu-02:warm").update(ppl=found, bitmap="none")
    more = TIER.spec.members[0].model_copy(update={"serial": "RW02-SAS9"})
    [refusal] = planned(raw, ppl=declared, bitmap=False, members=(*TIER.spec.members, more)).refusals

    assert refusal.problem == "the array has 3 members, and 4 are declared, but the array has a partial parity log"
    assert refusal.expected == "an array without the log: md reshapes no other"
    assert "Declare `ppl: false` and run up" in refusal.help


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, ["`ppl: true` closes it"]),
        (PPL, []),
        ({"level": "raid6"}, ["md starts raid6 by force alone"]),
        ({"level": "raid10"}, []),
    ],
    ids=["raid5", "ppl", "raid6", "raid10"],
)
def test_the_report_names_the_risk_of_a_power_cut(changes, expected):
    notes = list(consistency.notes(changed(TIER.spec, **changes)))

    assert len(notes) == len(expected)
    assert all(part in note for part, note in zip(expected, notes, strict=True))


def test_an_array_with_a_log_is_not_enlarged(raw):
    array(raw, "gpu-02:warm").update(ppl=True, bitmap="none")
    larger = of_size(TIER.spec.members, 4 << 30)
    for part in larger:
        drive(raw, part.serial).update(size_bytes=4 << 30)

    [refusal] = planned(raw, **PPL, members=larger).refusals
    assert refusal.expected == "an array without a partial parity log: md enlarges no other"


@pytest.mark.parametrize(("size", "kib"), [(512_000_000, 483_328), (4_000_000_000_000, 3_886_718_720)])
def test_there_is_room_for_a_log_whether_or_not_one_is_kept(size, kib):
    """
    Of a large drive the headroom has it; a small one of a twin has to leave more.
    """
    drives = of_size(TIER.spec.members, size)

    assert [changed(TIER.spec, members=drives, **more).member_kib for more in ({}, PPL)] == [kib, kib]
