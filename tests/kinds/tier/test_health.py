"""What a failing or worn drive means for the tier that stands on it."""

import pytest

from rackwright.schema.health import ANY
from tests.kinds.tier.conftest import SERIALS, TIER, planned, refused
from tests.support.mutations import array, drive
from tests.support.tier_spec import unwatched


def ill(raw, serial, **counted):
    drive(raw, serial)["health"].update(counted)


def test_a_failing_drive_is_left_to_a_person(raw):
    """
    By its serial, with the command that names its successor; the tier itself is as it should be.
    """
    ill(raw, SERIALS[1], passed=False)

    plan = planned(raw)

    [item] = plan.by_hand
    assert plan.steps == ()
    assert (item.path, item.actual) == (f"drive:{SERIALS[1]}.health", "failing")
    assert f"rackwright drive replace STACK gpu-01 {SERIALS[1]} NEW" in item.remedy


@pytest.mark.parametrize(("name", "limit"), [("media_errors", 0), ("wear_percent", 90)])
def test_what_a_drive_counts_is_held_against_the_threshold(raw, name, limit):
    ill(raw, SERIALS[1], **{name: limit})
    assert planned(raw).by_hand == ()
    ill(raw, SERIALS[1], **{name: limit + 1})
    assert [(item.path, item.severity) for item in planned(raw).by_hand] == [(f"drive:{SERIALS[1]}.{name}", "warning")]
    more = TIER.spec.health.model_copy(update={name: ANY})
    assert planned(raw, health=more).by_hand == ()


def test_a_failing_drive_that_fell_out_is_not_taken_back(raw):
    found = array(raw, "gpu-01:hot")
    found["members"] = found["members"][1:]
    found["degraded"] = 1
    ill(raw, SERIALS[0], passed=False)

    plan = planned(raw)

    assert plan.steps == ()
    assert {item.path for item in plan.by_hand} == {
        f"drive:{SERIALS[0]}.health",
        "md:gpu-01:hot.members",
        "md:gpu-01:hot.state",
    }


def test_nothing_is_made_over_a_failing_drive(blank):
    ill(blank, SERIALS[2], passed=False)

    assert f"{SERIALS[2]}: got health failing; passed, as declared. Take another drive" in refused(planned(blank))


def test_drives_that_tell_nothing_hold_no_tier_up(blank):
    """
    A host may have no smartctl, and what it counts is a matter of thresholds: both are reported.
    """
    drive(blank, SERIALS[0])["health"] = {"unknown": "smartctl is not installed"}
    ill(blank, SERIALS[1], wear_percent=95)

    plan = planned(blank)

    assert plan.creates
    assert {item.thing for item in plan.by_hand} == {f"drive:{serial}" for serial in SERIALS[:2]}


def test_health_without_a_monitor_is_not_claimed(raw):
    ill(raw, SERIALS[1], passed=False)

    members = unwatched(TIER.spec.members)
    assert planned(raw, members=members).by_hand == ()
