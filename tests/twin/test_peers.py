"""The network paths between hosts on the twin, with a switch that drops large frames."""

from collections.abc import Callable, Iterator

import pytest

from rackwright.audit.evidence import from_hosts
from rackwright.audit.report import compare
from rackwright.core.contract import Difference, Plan, UnknownValue
from rackwright.twin import faults
from tests.twin.test_network import ROOT_ONLY, Rack, fleet, nic

pytestmark = [pytest.mark.twin, ROOT_ONLY]
HOSTS = ("alpha", "beta")
PATHS = {
    "alpha/peers": {"path:beta:10.30.0.12.mtu", "path:beta:2001:db8:30::12.mtu"},
    "beta/peers": {"path:alpha:10.30.0.11.mtu", "path:alpha:2001:db8:30::11.mtu"},
}


@pytest.fixture(scope="module")
def rack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rack]:
    """Two containers with jumbo frames between them, with IPv4 and IPv6."""
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


def differences(rack: Rack) -> dict[str, dict[str, Difference]]:
    """Return the differences of a complete audit, by resource and path."""
    for host in HOSTS:
        rack.hosts.facts(host, fresh=True)
    report = compare(rack.stack, from_hosts(rack.hosts, HOSTS, print))
    return {result.name: {item.path: item for item in result.differences} for result in report.results}


def test_both_ends_report_a_switch_that_drops_large_frames(rack: Rack) -> None:
    """
    Only a person can correct it. The difference has the exact size that passes; without the limit there is none.
    """
    nothing: dict[str, dict[str, Difference]] = {name: {} for name in differences(rack)}
    assert differences(rack) == nothing

    faults.limit_packet_size(rack.twin, "beta", 1500)
    try:
        limited = differences(rack)
        paths, plan = rack.observe("alpha", "peers")
    finally:
        faults.limit_packet_size(rack.twin, "beta", None)
    assert {name: set(items) for name, items in limited.items()} == {name: PATHS.get(name, set()) for name in nothing}
    assert {item.actual for items in limited.values() for item in items.values()} == {1500}
    assert plan == Plan(by_hand=plan.by_hand) and {item.path for item in plan.by_hand} == paths
    assert differences(rack) == nothing


def test_the_path_to_a_peer_that_is_off_is_unknown(rack: Rack, eventually: Callable[..., None]) -> None:
    rack.twin.power_off("beta")
    _, plan = rack.observe("alpha", "peers")
    assert {item.path for item in plan.by_hand} == PATHS["alpha/peers"]
    reasons = {item.actual.reason for item in plan.by_hand if isinstance(item.actual, UnknownValue)}
    assert reasons == {f"facts.paths.{to}: {to} does not answer" for to in ("10.30.0.12", "2001:db8:30::12")}

    rack.twin.power_on("beta", print)
    eventually(lambda: rack.observe("alpha", "peers")[0] == set())


def test_paths_are_unknown_while_the_list_of_peers_is_wrong(rack: Rack) -> None:
    """
    A size that is not in the list is not tested, so it is unknown.
    """
    rack.run("alpha", "sed -i -e s/9000/1500/ -e /2001:db8/d /etc/rackwright/peers")
    paths, plan = rack.observe("alpha", "peers")
    assert paths == {"file:/etc/rackwright/peers.content"} | PATHS["alpha/peers"]
    assert plan.steps and not plan.by_hand

    rack.up("alpha", "peers")
