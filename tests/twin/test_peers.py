"""The ways between hosts on the twin: what the switch does not pass is found by both ends, and nothing else is."""

from collections.abc import Callable, Iterator

import pytest

from rackwright.audit.evidence import from_hosts
from rackwright.audit.report import compare
from rackwright.core.contract import Difference, Plan, UnknownValue
from rackwright.twin import faults
from tests.twin.test_network import ROOT_ONLY, Rack, fleet, nic

pytestmark = [pytest.mark.twin, ROOT_ONLY]
HOSTS = ("alpha", "beta")
WAYS = {
    "alpha/peers": {"path:beta:10.30.0.12.mtu", "path:beta:2001:db8:30::12.mtu"},
    "beta/peers": {"path:alpha:10.30.0.11.mtu", "path:alpha:2001:db8:30::11.mtu"},
}


@pytest.fixture(scope="module")
def rack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rack]:
    """Two containers with jumbo frames between them, in IPv4 and in IPv6."""
    hosts = {
        name: {
            "nics": [nic(number, 0, mtu=9000, addresses=[f"10.30.0.1{number}/24", f"2001:db8:30::1{number}/64"])],
            "network": {},
        }
        for number, name in enumerate(HOSTS, start=1)
    }
    rack = Rack(tmp_path_factory.mktemp("peers"), fleet(hosts), {*HOSTS})
    rack.start()
    for host in HOSTS:
        rack.up(host)
    for host in HOSTS:
        rack.up(host, "peers")
    yield rack
    rack.stop()


def audited(rack: Rack) -> dict[str, dict[str, Difference]]:
    """Return by resource and path what a whole audit finds."""
    for host in HOSTS:
        rack.hosts.facts(host, fresh=True)
    report = compare(rack.stack, from_hosts(rack.hosts, HOSTS, print))
    return {result.name: {item.path: item for item in result.differences} for result in report.results}


def test_a_switch_that_cuts_frames_is_found_by_both_ends_and_by_nothing_else(rack: Rack) -> None:
    """
    Only a person can mend it. What passes is told to the byte; once the switch passes all again, all holds.
    """
    nothing: dict[str, dict[str, Difference]] = {name: {} for name in audited(rack)}
    assert audited(rack) == nothing

    faults.limit_packet_size(rack.twin, "beta", 1500)
    found = audited(rack)
    assert {name: set(items) for name, items in found.items()} == {name: WAYS.get(name, set()) for name in nothing}
    assert {item.actual for items in found.values() for item in items.values()} == {1500}
    paths, plan = rack.look("alpha", "peers")
    assert plan == Plan(by_hand=plan.by_hand) and {item.path for item in plan.by_hand} == paths

    faults.limit_packet_size(rack.twin, "beta", None)
    assert audited(rack) == nothing


def test_a_peer_that_is_off_is_unknown_and_no_difference(rack: Rack, eventually: Callable[..., None]) -> None:
    rack.twin.power_off("beta")
    _, plan = rack.look("alpha", "peers")
    assert {item.path for item in plan.by_hand} == WAYS["alpha/peers"]
    reasons = {item.actual.reason for item in plan.by_hand if isinstance(item.actual, UnknownValue)}
    assert reasons == {f"facts.paths.{to}: {to} does not answer" for to in ("10.30.0.12", "2001:db8:30::12")}

    rack.twin.power_on("beta", print)
    eventually(lambda: rack.look("alpha", "peers")[0] == set())


def test_a_list_that_was_changed_by_hand_asks_for_nothing_until_it_is_mended(rack: Rack) -> None:
    """
    What it does not ask for is not known, whatever passes.
    """
    rack.run("alpha", "sed -i -e s/9000/1500/ -e /2001:db8/d /etc/rackwright/peers")
    paths, plan = rack.look("alpha", "peers")
    assert paths == {"file:/etc/rackwright/peers.content"} | WAYS["alpha/peers"]
    assert plan.steps and not plan.by_hand

    rack.up("alpha", "peers")
