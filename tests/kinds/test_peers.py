"""What the plan of peers does with what is found, on facts recorded from real hosts."""

import pytest

from rackwright.core import diff as comparison
from rackwright.core.contract import Difference, Plan, Remove, UnknownValue
from rackwright.core.scope import rehearsable_claims
from rackwright.facts.facts import Facts
from rackwright.kinds.peers import PeersKind, PeersSpec
from tests.support.mutations import Raw
from tests.support.recorded_hosts import RESOURCES, STACK, recorded

KIND, REPOSITORY = PeersKind(), STACK.repository
SPEC = RESOURCES["gamma/peers"].spec
assert isinstance(SPEC, PeersSpec)
PEERS, BOND = "/etc/rackwright/peers", "10.30.0.15"


@pytest.fixture
def raw() -> Raw:
    return recorded("gamma")


def found(raw: Raw) -> dict[str, Difference]:
    claims = KIND.claims(SPEC, REPOSITORY)
    return {item.path: item for item in comparison.diff(claims, KIND.observe(claims, Facts(raw)))}


def planned(raw: Raw) -> Plan:
    return KIND.plan(SPEC, tuple(found(raw).values()), Facts(raw), REPOSITORY)


def test_a_way_that_takes_less_is_a_persons_matter(raw: Raw) -> None:
    raw["paths"][BOND]["passed"] = 1500
    plan = planned(raw)

    assert plan == Plan(by_hand=plan.by_hand)
    [way] = plan.by_hand
    assert (way.path, way.actual) == (f"path:epsilon:{BOND}.mtu", 1500)
    assert way.remedy.startswith("check that the links at both ends have an MTU of 9000, then that each switch port")


def test_a_host_without_time_servers_gets_them(raw: Raw) -> None:
    """
    That nothing is known before is no news: it is asked for right afterwards.
    """
    del raw["files"][PEERS], raw["owners"]["peers"]
    raw["paths"] = {"unknown": f"there is no {PEERS}"}
    plan = planned(raw)

    assert [step.text for step in plan.steps] == [f"write {PEERS}", "note in the owner file: ready"]
    assert plan.texts[PEERS].splitlines()[2:] == [
        "10.50.0.13 10.50.0.15 1500 epsilon",
        "2001:db8:50::13 2001:db8:50::15 1500 epsilon",
        "10.30.0.13 10.30.0.15 9000 epsilon",
    ]
    assert not plan.by_hand


@pytest.mark.parametrize(("asked", "passed", "differs"), [(1500, 1500, False), (1500, 1400, True), (9100, 9000, None)])
def test_what_was_not_asked_for_is_not_known(raw: Raw, asked: int, passed: int, differs: bool | None) -> None:
    """
    An older list asks for less than is declared now: that as much passes says nothing, that less does says all.
    """
    raw["paths"][BOND] = {"asked": asked, "passed": passed}
    way = found(raw).get(f"path:epsilon:{BOND}.mtu")

    assert (None if way is None else not isinstance(way.actual, UnknownValue)) is differs


def test_another_fleet_s_list_is_refused(raw: Raw) -> None:
    raw["owners"]["peers"]["fleet"] = "other"

    assert "in fleet other" in planned(raw).refusals[0].problem


def test_a_container_shows_no_way_over_a_bond() -> None:
    spec = SPEC.model_copy(update={"not_rehearsable": ("hardware", "kernel")})
    ways = [
        claim.thing
        for claim in rehearsable_claims(KIND.claims(spec, REPOSITORY), spec)
        if claim.thing.startswith("path:")
    ]

    assert ways == ["path:epsilon:10.50.0.15", "path:epsilon:2001:db8:50::15"]


def test_removal_takes_the_list_and_leaves_nothing(raw: Raw) -> None:
    plan = KIND.removal(SPEC, Facts(raw), REPOSITORY, True)

    assert [step.path for step in plan.steps if isinstance(step, Remove)] == [
        PEERS,
        "/var/lib/rackwright/owners/peers.json",
    ]
    del raw["owners"]["peers"]
    assert KIND.removal(SPEC, Facts(raw), REPOSITORY, True) == Plan()
