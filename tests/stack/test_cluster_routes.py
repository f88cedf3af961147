"""The routes of a cluster's hosts to pods and services: in the declared network of the host, or kept by its role."""

from dataclasses import replace
from typing import Any

import pytest
import yaml

from rackwright.core import diff as comparison
from rackwright.core.contract import Absent, Difference
from rackwright.facts.facts import Facts
from rackwright.fleet import load_fleet
from rackwright.kinds.network.spec import NETPLAN, NetworkSpec, files
from rackwright.stack import DeclaredResource
from rackwright.stack.resources import declare_unchecked
from tests.support.recorded_hosts import HERE, STACK

FLEET: Any = yaml.safe_load((HERE / "clustered.yaml").read_text())
REPOSITORY = STACK.repository
WAYS = {"10.244.1.0/24": "10.145.0.11", "10.244.3.0/24": "10.145.0.13", "10.96.0.0/12": "10.145.0.11"}
"""Networks and gateways of the routes of the host aspen."""
LINK = {"link": "fabric0", "metric": 0}


@pytest.fixture
def declared(tmp_path):
    """Return the resources of the fleet after a change of the host aspen."""

    def declare(**aspen: Any) -> dict[str, DeclaredResource]:
        hosts = {**FLEET["hosts"], "aspen": {**FLEET["hosts"]["aspen"], **aspen}}
        path = tmp_path / "fleet.yaml"
        path.write_text(yaml.safe_dump({**FLEET, "hosts": hosts}))
        stack = replace(STACK, fleet=load_fleet(path, REPOSITORY.roles))
        return {resource.name: resource for resource in declare_unchecked(stack)}

    return declare


def routes() -> list[dict[str, Any]]:
    return [{"destination": to, "gateway": via, **LINK} for to, via in WAYS.items()]


def differences(resource: DeclaredResource, *found: dict[str, Any], dead: tuple[str, ...] = ()) -> list[Difference]:
    """Return the differences of routes of *resource* on a host with the routes *found* and *dead*."""
    blackholes = [{"destination": to, "gateway": None, "kind": "blackhole", "metric": 0} for to in dead]
    chosen = {
        row["destination"]: [{**row, "to": "192.0.2.1"}] for row in routes()
    }  # the kernel's answer has its own tests
    facts = Facts({"routes": [*found], "dead_routes": blackholes, "chosen_routes": chosen})
    claims = [claim for claim in resource.kind.claims(resource.spec, REPOSITORY) if claim.thing.startswith("route:")]
    return [*comparison.diff(claims, resource.kind.observe(claims, facts))]


def network(resources: dict[str, DeclaredResource], host: str = "aspen") -> NetworkSpec:
    spec = resources[f"{host}/network"].spec
    assert isinstance(spec, NetworkSpec)
    return spec


def test_the_file_of_a_declared_network_has_the_routes(declared) -> None:
    text = files(network(declared()), REPOSITORY)[NETPLAN].text

    found = yaml.safe_load(text)["network"]["ethernets"]["fabric0"]["routes"]
    assert {route["to"]: route["via"] for route in found} == WAYS


def test_the_role_comes_after_the_network_and_leaves_the_routes_to_it(declared) -> None:
    resources = declared()

    role = resources["aspen/kubernetes_node"]
    assert role.spec.variables["network_routes"] is True
    assert "aspen/network" in role.after
    things = {claim.thing for claim in role.kind.claims(role.spec, REPOSITORY)}
    assert not [thing for thing in things if thing.startswith("route:")]
    assert "unit:rackwright-kubernetes-routes.service" not in things


CHANGES: dict[str, tuple[dict[str, dict[str, Any] | None], tuple[str, ...], set[str]]] = {
    "as declared": ({}, (), set()),
    "deleted by hand": ({"10.244.3.0/24": None}, (), {"via", "link"}),
    "all gone with the link": (dict.fromkeys(WAYS), (), {"via", "link"}),
    "another gateway": ({"10.244.3.0/24": {"gateway": "10.145.0.99"}}, (), {"via"}),
    "another link": ({"10.244.3.0/24": {"link": "renamed0"}}, (), {"link"}),
    "no gateway": ({"10.244.3.0/24": {"gateway": None}}, (), {"via"}),
    "a blackhole beside it": ({}, ("10.244.3.0/24",), {"preferred"}),
    "a blackhole in its place": ({"10.244.3.0/24": None}, ("10.244.3.0/24",), {"via", "link"}),
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("owner", ["network", "kubernetes_node"])
def test_each_change_of_a_route_in_the_kernel_is_a_difference(declared, change: str, owner: str) -> None:
    resources = declared() if owner == "network" else declared(network=None)
    changed, dead, names = CHANGES[change]
    rows = [
        {**row, **(changed.get(row["destination"], {}) or {})}
        for row in routes()
        if changed.get(row["destination"], {}) is not None
    ]

    found = differences(resources[f"aspen/{owner}"], *rows, dead=dead)

    wanted = names if owner == "network" else names - {"link"}
    assert {item.name for item in found} == wanted
    assert {item.thing for item in found} <= {f"route:{to}" for to in WAYS}
    if change == "all gone with the link":
        assert {item.thing for item in found} == {f"route:{to}" for to in WAYS}


def test_a_second_route_that_the_kernel_prefers_is_a_difference(declared) -> None:
    second = {"destination": "10.244.3.0/24", "gateway": "10.145.0.99", **LINK}
    for resource in (declared()["aspen/network"], declared(network=None)["aspen/kubernetes_node"]):
        [found] = differences(resource, *routes(), second)
        assert (found.path, found.actual) == ("route:10.244.3.0/24.preferred", ("via 10.145.0.99 on fabric0",))


def test_routes_that_cannot_be_read_are_unknown(declared) -> None:
    resource = declared()["aspen/network"]
    claims = [claim for claim in resource.kind.claims(resource.spec, REPOSITORY) if claim.thing.startswith("route:")]
    found = comparison.diff(claims, resource.kind.observe(claims, Facts({"routes": {"unknown": "netlink"}})))
    assert len({item.thing for item in found}) == len(WAYS) and all(item.is_unknown for item in found)


def test_a_host_without_a_declared_network_keeps_the_routes_by_its_role(declared) -> None:
    resources = declared(network=None)
    role = resources["aspen/kubernetes_node"]

    things = {claim.thing for claim in role.kind.claims(role.spec, REPOSITORY)}
    assert {f"route:{to}" for to in WAYS} | {"unit:rackwright-kubernetes-routes.service"} <= things
    [missing] = differences(role, *routes()[1:])
    assert (missing.path, missing.actual) == ("route:10.244.1.0/24.via", Absent())
    assert "adds the route again" in missing.remedy
    assert network(resources, "maple").declared.routes, "other hosts have theirs in their networks"


def test_a_network_that_does_not_reach_the_nodes_leaves_the_routes_to_the_role(declared) -> None:
    other = [{"name": "storage0", "mac": "52:54:00:45:00:02", "addresses": ["10.69.0.12/24"]}]
    resources = declared(nics=other)

    assert network(resources).declared.routes == ()
    assert "network_routes" not in resources["aspen/kubernetes_node"].spec.variables


def test_a_declared_route_to_the_pods_of_a_node_is_kept(declared) -> None:
    resources = declared(network={"routes": [{"to": "10.244.3.0/24", "via": "10.145.0.200"}]})

    assert [route.via for route in network(resources).declared.routes if route.to == "10.244.3.0/24"] == [
        "10.145.0.200"
    ]


def test_a_rack_whose_switches_know_the_routes_has_none_on_its_hosts(declared) -> None:
    node = {**FLEET["hosts"]["aspen"]["roles"]["kubernetes_node"], "nodes": []}
    resources = declared(roles={**FLEET["hosts"]["aspen"]["roles"], "kubernetes_node": node})

    assert network(resources).declared.routes == ()
    assert differences(resources["aspen/kubernetes_node"]) == []
