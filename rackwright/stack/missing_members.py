"""Notices about members of load balancers that are no server of the project."""

from collections.abc import Iterator, Sequence

from rackwright.fleet.load import load_fleet
from rackwright.schema.fleet import Fleet, stations
from rackwright.schema.formats import parse_address, parse_url
from rackwright.schema.server import EVERYWHERE
from rackwright.stack.load import neighbours
from rackwright.stack.stack import Stack

ROLE = "load_balancer"
VIRTUAL = "virtual_address"
"""The role of hosts one of which has a further address at a time."""


def missing_members(stack: Stack) -> Iterator[str]:
    """Yield a notice for each member of a load balancer of *stack* that is neither a server nor a host of others.

    An address outside the networks of the fleet's hosts is one of others.
    """
    hosts = stack.fleet.hosts
    members = [
        (f"{host}: {ROLE}.services.{service}: {member}", member)
        for host, declared in hosts.items()
        for service, its in declared.roles.get(ROLE, {}).get("services", {}).items()
        for member in its["members"]
    ]
    if not members:
        return
    networks = stations(hosts)
    owners = {station.address: station.host for several in networks.values() for station in several}
    moving = {str(host.roles[VIRTUAL].get("address")) for host in hosts.values() if VIRTUAL in host.roles}
    # with the hosts and servers that a twin leaves out
    users = [load_fleet(user.fleet_file, stack.repository.roles) for user in neighbours(stack)]
    users = [user for user in users if user.servers]
    for place, member in members:
        url = parse_url(f"http://{member}")
        address, port = str(parse_address(str(url.hostname))), url.port
        if owner := owners.get(address):
            if users and not _listens(users, owner, address, port):
                names = " and ".join(user.fleet for user in users)
                yield f"{place}: no server of {names} listens there on {owner}. Correct the port, or declare the server"
        elif address not in moving and (near := [each for each in networks if parse_address(address) in each]):
            yield f"{place}: no host of this fleet has this address of {near[0]}. Correct it, if it is none of others"


def _listens(users: Sequence[Fleet], owner: str, address: str, port: int | None) -> bool:
    """Return whether a server of *users* listens on this address and port of the host *owner*."""
    return any(
        server.on == "hosts"
        and server.port == port
        and owner in server.members(user.hosts)
        and server.address(user.hosts[owner]) in (EVERYWHERE, address)
        for user in users
        for server in user.servers.values()
    )
