"""The roles that follow from the `quarantine` of a fleet's monitoring: the receiver of verdicts, and their readers."""

from collections.abc import Iterator, Mapping
from typing import Any

from rackwright.errors import quantity
from rackwright.fleet.monitoring_addresses import client_addresses, monitoring_address
from rackwright.quarantine.hosts import most
from rackwright.schema.fleet import stations
from rackwright.schema.formats import parse_address, parse_url
from rackwright.schema.host import Host
from rackwright.schema.monitoring import Monitoring
from rackwright.schema.problem import Keys, Problem

RECEIVER, READER = "quarantine_receiver", "quarantine_reader"
BALANCER, CONTROL_PLANE = "load_balancer", "kubernetes_control_plane"
PLACE: Keys = ("monitoring", "quarantine")


def problems(monitoring: Monitoring, hosts: Mapping[str, Host]) -> Iterator[Problem]:
    """Yield the conflicts between the quarantine of *monitoring* and *hosts*; paths are relative to the fleet."""
    if monitoring.quarantine is None:
        return
    for name, host in hosts.items():
        for role in (READER, *((RECEIVER,) if name == monitoring.host else ())):
            if role in host.roles:
                expected, help = f"monitoring gives hosts role {role}", "Remove it, or remove quarantine of monitoring"
                yield Problem("got the role", expected, help, ("hosts", name, "roles", role))
    share = monitoring.quarantine.share_percent
    if not most(len(hosts), share):
        problem = f"got {share} % of {quantity(len(hosts), 'host')}, which is less than one host"
        least = -(-100 // len(hosts)) if hosts else 100
        help = f"Write {least} or more" if least <= 50 else "Remove quarantine: a share of 50 % of one host is none"
        yield Problem(problem, "the share is one host or more", help, (*PLACE, "share_percent"))
    if not receiver_address(monitoring, hosts):
        expected = f"an address of {monitoring.host} in a declared network of all hosts"
        help = "Write `address`, an address of it that all hosts reach"
        yield Problem(f"got no address of {monitoring.host} for all readers of verdicts", expected, help, PLACE)
    for name, addresses in client_addresses(monitoring, hosts).items():
        if not addresses:
            expected = f"a declared address of {name}, from which it reads verdicts"
            help = f"Declare the network of {name}, or name its address under addresses"
            yield Problem(f"got no address of {name} for its reader of verdicts", expected, help, PLACE)


def receiver_address(monitoring: Monitoring, hosts: Mapping[str, Host]) -> str | None:
    """Return the declared address of the verdicts, or that of the monitoring host in a network of all hosts."""
    return (monitoring.quarantine and monitoring.quarantine.address) or monitoring_address(monitoring, hosts)


def roles_of_host(monitoring: Monitoring, name: str, hosts: Mapping[str, Host]) -> dict[str, dict[str, Any]]:
    """Return the roles of the host *name* with their variables, for a declaration without problems."""
    declared, address = monitoring.quarantine, receiver_address(monitoring, hosts)
    if declared is None or address is None:
        return {}
    common = {
        "address": address,
        "hosts": sorted(hosts),
        "share_percent": declared.share_percent,
        "key": monitoring.key,
    }
    members = _members(monitoring, hosts[name], hosts)
    reader = {
        **common,
        "receiver": monitoring.host,
        "port": declared.read_port,
        **({"members": members} if members else {}),
        **({"cordons": True} if CONTROL_PLANE in hosts[name].roles else {}),
    }
    if name != monitoring.host:
        return {READER: reader}
    readers = sorted({each for several in client_addresses(monitoring, hosts).values() for each in several})
    receiver = {**common, "port": declared.port, "read_port": declared.read_port, "readers": readers}
    return {RECEIVER: receiver, READER: reader}


def _members(monitoring: Monitoring, host: Host, hosts: Mapping[str, Host]) -> dict[str, dict[str, str]]:
    """Return the members of each service that *host* balances and that are at hosts of the fleet, with those hosts."""
    owners = {each.address: each.host for several in stations(hosts).values() for each in several}
    owners |= {str(parse_address(address)): name for name, address in monitoring.addresses.items() if name in hosts}
    found: dict[str, dict[str, str]] = {}
    for service, balanced in host.roles.get(BALANCER, {}).get("services", {}).items():
        endpoints = balanced.get("members", ()) if isinstance(balanced, Mapping) else ()
        # a member elsewhere has no verdicts, but is one that may answer
        found[service] = {endpoint: owners.get(_address(endpoint), "") for endpoint in endpoints}
    return {service: members for service, members in found.items() if any(members.values())}


def _address(endpoint: str) -> str:
    """Return the address of an *endpoint* in the one form in which `stations` has it."""
    return str(parse_address(str(parse_url(f"http://{endpoint}").hostname)))
