"""What changes a declared unit beside its own file is a difference of that unit, and a person mends it."""

import pytest

from rackwright.core import diff as comparison
from rackwright.core.contract import Claim, Command, Difference, Plan, UnknownValue, Within
from rackwright.facts.facts import Facts
from rackwright.kinds.shared.unit_overrides import add_manual_work, split_overrides, unmask, with_overrides
from tests.support.recorded_hosts import RESOURCES, STACK, recorded

UNITS = [
    pytest.param(declared, claim.thing, id=f"{declared.name}-{claim.thing}")
    for declared in RESOURCES.values()
    for claim in with_overrides(declared.kind.claims(declared.spec, STACK.repository))
    if "overrides" in claim.want
]


def differences(declared, raw):
    claims = with_overrides(declared.kind.claims(declared.spec, STACK.repository))
    found = comparison.diff(claims, declared.kind.observe(claims, Facts(raw)))
    return [item for item in found if item.name == "overrides"]


def test_there_are_units_of_every_kind_that_has_some():
    assert {param.values[0].token.rpartition(":")[2] for param in UNITS} >= {
        "Tier",
        "Role",
        "TrainingRun",
        "ModelServer",
        "Network",
    }


@pytest.mark.parametrize(("declared", "thing"), UNITS)
def test_a_drop_in_is_a_difference_of_its_unit_and_left_to_a_person(declared, thing):
    raw, name = recorded(declared.spec.host), thing.partition(":")[2]
    assert differences(declared, raw) == []
    path = f"/run/systemd/generator/{name}.d/x.conf"
    raw["unit_overrides"] = {name: [path]}

    difference = next(item for item in differences(declared, raw) if item.thing == thing)
    assert difference.actual == (path,)
    assert "systemctl cat" in difference.remedy
    assert split_overrides([difference]) == ((), (difference,))
    assert add_manual_work(Plan(), (difference,)).by_hand == (difference,)


@pytest.mark.parametrize(("declared", "thing"), UNITS)
def test_without_that_fact_it_is_unknown(declared, thing):
    raw = recorded(declared.spec.host)
    del raw["unit_overrides"]

    [found] = [item.actual for item in differences(declared, raw) if item.thing == thing]
    assert isinstance(found, UnknownValue)


def test_a_timer_is_as_good_as_the_service_that_it_starts():
    name = next(param.values[1] for param in UNITS if param.values[1].endswith(".timer"))
    declared = next(param.values[0] for param in UNITS if param.values[1] == name)
    raw, service = recorded(declared.spec.host), name.partition(":")[2].replace(".timer", ".service")
    raw["unit_overrides"] = {service: ["/etc/x.conf"]}

    assert [item.path for item in differences(declared, raw)] == [f"{name}.overrides"]


def test_a_file_that_is_declared_beside_it_may_change_a_unit():
    drop_in = Claim("file:/etc/systemd/system/ssh.service.d/x.conf", {"content": "1"})
    unit = Claim("unit:ssh.service", {"state": "enabled"})

    assert with_overrides([drop_in, unit])[2].want == {"overrides": Within((drop_in.thing.partition(":")[2],))}


@pytest.mark.parametrize("state", ["masked", "disabled"])
def test_a_unit_that_is_not_started_may_say_what_it_likes(state):
    assert len(with_overrides([Claim("unit:ssh.service", {"state": state})])) == 1


def test_a_mask_until_the_next_start_is_taken_off_before_anything_else():
    state = Difference("unit:a.service", "state", "enabled", "masked-runtime")
    mask = Difference("unit:a.service", "overrides", (), ("/run/systemd/system/a.service",))
    plan = Plan(steps=(Command("start a.service", ("systemctl", "start", "a.service")),), by_hand=(mask,))

    planned = unmask(plan, (state, mask))

    assert next(step.argv for step in planned.steps) == ("systemctl", "unmask", "--runtime", "--quiet", "a.service")
    assert len(planned.steps) == 2 and planned.by_hand == ()


@pytest.mark.parametrize("actual", ["masked", "disabled", UnknownValue("x")])
def test_other_states_of_a_unit_are_the_kinds_own_work(actual):
    plan = Plan(steps=(Command("start", ("systemctl", "start", "a.service")),))

    assert unmask(plan, (Difference("unit:a.service", "state", "enabled", actual),)) == plan


def test_a_drop_in_beside_a_mask_stays_with_a_person():
    state = Difference("unit:a.service", "state", "enabled", "masked-runtime")
    both = ("/run/systemd/system/a.service", "/run/systemd/system/a.service.d/x.conf")
    override = Difference("unit:a.service", "overrides", (), both)
    plan = Plan(steps=(Command("start", ("systemctl", "start", "a.service")),), by_hand=(override,))

    assert unmask(plan, (state, override)).by_hand == (override,)
    assert unmask(Plan(), (state,)) == Plan(), "a plan without steps changes nothing"
