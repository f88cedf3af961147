"""What every kind promises, proved on facts recorded from a real host, property by property."""

import copy

import pytest

from rackwright.core.contract import UnknownValue, claims
from rackwright.facts.facts import Facts
from tests.support import mutate
from tests.support.mutations import Row
from tests.support.recorded_hosts import AT_ENDPOINTS, RESOURCES, STACK, recorded
from tests.support.sampled import sampled


def untested(case):
    """Return what no sample may leave out: the resource, and the property of its kind or role at such a thing."""
    declared, thing, name = case.values
    kind = getattr(declared.spec, "role", declared.token)
    return [declared.name, (kind, thing.partition(":")[0], name)]


PROPERTIES = sampled(
    (
        pytest.param(declared, claim.thing, name, id=f"{declared.name}-{claim.thing}-{name}")
        for declared in (*RESOURCES.values(), *AT_ENDPOINTS.values())
        for claim in declared.kind.claims(declared.spec, STACK.repository)
        for name in claim.want
    ),
    untested,
)


def claims_of(declared):
    return claims(declared.kind, declared.spec, STACK.repository)


def differences(declared, raw):
    return mutate.differences(declared, raw, claims_of(declared))


def differing(declared, raw):
    return mutate.differing(declared, raw, claims_of(declared))


def row_of(declared, thing: str, name: str, raw) -> Row:
    return mutate.row_of(declared, thing, name, raw, claims_of(declared))


def test_what_was_made_is_what_was_declared(declared, raw):
    """
    On the facts recorded after `up` nothing differs, and nothing is unknown.
    """
    assert differences(declared, raw) == ()


def test_planning_again_gives_no_step(declared, facts, repository):
    """
    After apply there is nothing left to do.
    """
    plan = declared.kind.plan(declared.spec, (), facts, repository)

    assert (plan.steps, plan.refusals, plan.by_hand) == ((), (), ())


@pytest.mark.parametrize(("declared", "thing", "name"), PROPERTIES)
def test_each_property_differs_by_itself(declared, thing, name):
    """
    One change on the host makes exactly one property differ: no claim echoes the wish.
    """
    raw = recorded(declared.source)
    row_of(declared, thing, name, raw).differ(raw, thing.partition(":")[2])

    assert differing(declared, raw) == [f"{thing}.{name}"]


@pytest.mark.parametrize(("declared", "thing", "name"), PROPERTIES)
def test_each_property_can_be_unknown(declared, thing, name):
    """
    What the facts do not hold is unknown, with a reason: never as declared, and never a difference.
    """
    raw = recorded(declared.source)
    row_of(declared, thing, name, raw).hide(raw, thing.partition(":")[2])

    left = {item.path: item.actual for item in differences(declared, raw)}

    assert isinstance(left[f"{thing}.{name}"], UnknownValue)
    assert left[f"{thing}.{name}"].reason
    assert all(isinstance(found, UnknownValue) for found in left.values())


def test_no_facts_at_all_are_all_unknown(declared):
    """
    Observation is total: a value for every property, whatever is missing.
    """
    claims = declared.kind.claims(declared.spec, STACK.repository)
    found = declared.kind.observe(claims, Facts({}))

    assert {(claim.thing, name) for claim in claims for name in claim.want} == {
        (thing, name) for thing, values in found.items() for name in values
    }
    assert all(isinstance(value, UnknownValue) for values in found.values() for value in values.values())


def test_no_facts_give_no_steps(declared, repository):
    """
    What is not known is never acted on.
    """
    plan = declared.kind.plan(declared.spec, differences(declared, {}), Facts({}), repository)

    assert plan.steps == ()


def test_one_owner_per_thing():
    """
    No two resources of a host own the same thing.
    """
    owned = [
        (declared.source, thing)
        for declared in (*RESOURCES.values(), *AT_ENDPOINTS.values())
        for thing in {claim.thing for claim in declared.kind.claims(declared.spec, STACK.repository) if claim.owned}
    ]

    assert len(owned) == len(set(owned))


def test_observation_does_not_change_the_facts(declared, raw):
    before = copy.deepcopy(raw)

    differences(declared, raw)

    assert raw == before
