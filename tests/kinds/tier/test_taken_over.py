"""A tier over an array that somebody else has made: claimed as it is, and nothing that is theirs is written."""

import copy

import pytest

from rackwright.core import diff as comparison
from rackwright.core.contract import Put, UnknownValue
from rackwright.facts.facts import Facts
from tests.kinds.tier.conftest import NEW, SERIALS, TIER, arrive, members, refused, texts
from tests.support.adopted_array import UUID, theirs
from tests.support.mutations import ROWS, array, drive, without
from tests.support.recorded_hosts import FREE, STACK
from tests.support.tier_spec import changed

SPEC = changed(TIER.spec, array=UUID, mount="/data/old", name="old")
CLAIMS = TIER.kind.claims(SPEC, STACK.repository)
PROPERTIES = [pytest.param(claim.thing, name, id=f"{claim.thing}-{name}") for claim in CLAIMS for name in claim.want]


def differences(raw, spec=SPEC):
    claims = TIER.kind.claims(spec, STACK.repository)
    return comparison.diff(claims, TIER.kind.observe(claims, Facts(raw)))


def planned(raw, **changes):
    spec = changed(SPEC, **changes)
    return TIER.kind.plan(spec, differences(raw, spec), Facts(raw), STACK.repository)


@pytest.fixture
def raw():
    return theirs()


def test_what_is_as_declared_needs_nothing(raw):
    assert differences(raw) == ()
    plan = planned(raw)
    assert (plan.steps, plan.refusals, plan.by_hand) == ((), (), ())


def test_nothing_that_is_theirs_is_claimed():
    assert {claim.thing.partition(":")[0] for claim in CLAIMS} == {"host", "drive", "md", "filesystem", "mount"}


@pytest.mark.parametrize(("thing", "name"), PROPERTIES)
def test_each_property_differs_by_itself_and_can_be_unknown(thing, name, raw):
    sort, key = thing.split(":", 1)
    hidden = copy.deepcopy(raw)
    ROWS[sort][name].differ(raw, key)
    ROWS[sort][name].hide(hidden, key)

    assert [item.path for item in differences(raw) if not item.is_unknown] == [f"{thing}.{name}"]
    left = {item.path: item.actual for item in differences(hidden)}
    assert isinstance(left[f"{thing}.{name}"], UnknownValue)


def test_an_array_that_is_gone_is_never_made(raw):
    raw["arrays"] = [each for each in raw["arrays"] if each["uuid"] != UUID]
    for serial in SERIALS:
        drive(raw, serial).update(FREE, signatures=[], witnesses=[], superblock=None, sample=[], holders=[])

    refusals = refused(planned(raw))
    assert "the array does not run" in refusals and "rackwright makes no array over data" in refusals


def test_one_that_was_stopped_is_assembled_by_a_person(raw):
    raw["arrays"] = [each for each in raw["arrays"] if each["uuid"] != UUID]

    assert f"its md superblocks are on: {', '.join(SERIALS)}" in refused(planned(raw))


def test_it_is_mounted_by_what_mounts_it_at_boot(raw):
    without(raw["mounts"], target="/data/old")

    plan = planned(raw)
    assert texts(plan) == ["mount /data/old"]
    assert plan.steps[0].argv == ("systemctl", "start", "data-old.mount")
    assert plan.by_hand == ()


def test_a_filesystem_without_a_mount_at_boot_is_left_to_a_person(raw):
    without(raw["mounts"], target="/data/old")
    del raw["units"]["data-old.mount"]

    plan = planned(raw)
    assert plan.steps == ()
    assert {item.thing for item in plan.by_hand} == {"mount:/data/old"}
    assert "as /etc/fstab" in plan.by_hand[0].remedy


def test_other_options_are_set_where_it_is_mounted_from(raw):
    plan = planned(raw, options=("nodev", "noatime"))

    assert plan.steps == ()
    assert [item.path for item in plan.by_hand] == ["mount:/data/old.options"]


def test_what_it_keeps_for_life_is_declared_as_it_is(raw):
    assert "Declare the chunk that the array has" in refused(planned(raw, chunk_kib=64))


def test_a_member_is_replaced_although_no_owner_file_tells_who_they_were(raw):
    arrive(raw)
    old, *kept = SERIALS

    plan = planned(raw, **members(NEW, *kept))
    assert texts(plan) == [
        "note in the owner file: replacing",
        f"put {NEW} into old",
        f"copy {old} onto {NEW}, which takes its place in old",
        f"let {old} go once that is done, and erase the md superblock",
        "note in the owner file: ready",
    ]
    assert {step.path for step in plan.steps if isinstance(step, Put)} == {SPEC.owner_file}


def test_one_that_is_gone_is_rebuilt_on_another(raw):
    gone, *kept = SERIALS
    arrive(raw)
    name = drive(raw, gone)["name"]
    array(raw, UUID).update(degraded=1)
    without(array(raw, UUID)["members"], name=name)
    without(raw["drives"], serial=gone)
    assert {item.path for item in planned(raw).by_hand} >= {f"md:{UUID}.members", f"md:{UUID}.state"}

    assert f"put {NEW} into old" in texts(planned(raw, **members(NEW, *kept)))


def test_it_is_let_go_as_it_is(raw):
    facts = Facts(raw)
    assert TIER.kind.removal(SPEC, facts, STACK.repository, consent=False).steps == ()

    raw["owners"]["tier-old"] = {"id": "gpu-01/old", "fleet": "rack", "phase": "ready", "serials": SERIALS}
    plan = TIER.kind.removal(SPEC, Facts(raw), STACK.repository, consent=False)
    assert texts(plan) == ["remove /var/lib/rackwright/owners/tier-old.json"]
