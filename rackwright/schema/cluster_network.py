"""The networks of a cluster's pods and services: each inside what it may be, and beside all others."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from rackwright.schema.formats import Network, parse_interface, parse_network
from rackwright.schema.host import Host
from rackwright.schema.network import links
from rackwright.schema.problem import Keys, Problem

SERVICES = "10.96.0.0/12"
"""The default of role kubernetes_control_plane."""


def problems(
    control_plane: str,
    members: Sequence[str],
    hosts: Mapping[str, Host],
    roles: tuple[str, str],
    place: Callable[[str], Keys],
) -> Iterator[Problem]:
    """Yield the problems of the networks of one cluster. Variables of another form are left to the check of roles.

    Args:
        roles: The roles of control planes and of nodes.
        place: Returns the place of a member in the cluster.
    """
    plane, node = roles
    variables = _variables(hosts, control_plane, plane)
    pods, services = (
        _network(variables.get("pod_network")),
        _network(variables.get("service_network", SERVICES if variables else "")),
    )
    ranges = {"pods of the cluster": pods, "services of the cluster": services}
    own = {member: _network(_variables(hosts, member, node).get("pod_network")) for member in members}
    if pods and services and _overlap(pods, services):
        yield _problem(
            f"pods in {pods} and services in {services}", "two networks without a common address", place(control_plane)
        )
    fabrics = {address: host for host in reversed([*hosts]) for address in _addresses(hosts[host])}
    for name, network in ranges.items():
        for address, host in fabrics.items():
            if network and _overlap(network, address):
                expected = f"a network outside {address}, in which {host} has an address"
                yield _problem(f"{name} in {network}", expected, place(control_plane))
    earlier: dict[str, Network] = {}
    for member, network in own.items():
        if network is None:
            continue
        if pods and not _is_within(network, pods):
            expected = f"a part of {pods}, the pods of the cluster"
            yield _problem(f"the pods of {member} in {network}", expected, place(member))
        for other, theirs in earlier.items():
            if _overlap(network, theirs):
                expected = f"a network beside {theirs}, that of {other}"
                yield _problem(f"the pods of {member} in {network}", expected, place(member))
        earlier[member] = network


def _problem(got: str, expected: str, place: Keys) -> Problem:
    help = "Give them another network, in role kubernetes_control_plane or kubernetes_node of the host"
    return Problem(f"got {got}", expected, help, place)


def _variables(hosts: Mapping[str, Host], host: str, role: str) -> Mapping[str, Any]:
    return hosts[host].roles.get(role) or {} if host in hosts else {}


def _network(text: Any) -> Network | None:
    try:
        return parse_network(str(text))
    except ValueError:
        return None


def _addresses(host: Host) -> Iterator[Network]:
    found = links(host.network, host.nics).values() if host.network else host.nics
    for link in found:
        for address in link.addresses:
            yield parse_interface(str(address)).network


def _overlap(one: Network, other: Network) -> bool:
    return one.version == other.version and one.overlaps(other)


def _is_within(inner: Network, outer: Network) -> bool:
    return inner.version == outer.version and inner.subnet_of(outer)  # type: ignore[arg-type]
