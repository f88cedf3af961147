"""The addresses of teams' pods: a slice of the pod network of each node, so that an address says whose pod has it."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rackwright.schema.cluster import SLICES, Team
from rackwright.schema.formats import Network, parse_network

_BITS = SLICES.bit_length() - 1


def team_addresses(teams: Mapping[str, Team], own: str, others: Sequence[str]) -> list[dict[str, Any]]:
    """Return the addresses of each isolated team on a node, and of the other pods under an empty name.

    Args:
        own: The pod network of the node.
        others: The pod networks of the other nodes.
    """
    isolated = {name: team.slice for name, team in teams.items() if team.slice is not None}
    if not isolated or not own or not all(others):
        return []
    return list(_addresses({"": 0, **isolated}, own, others))


def _addresses(slices: Mapping[str, int], own: str, others: Sequence[str]) -> Iterator[dict[str, Any]]:
    for name, number in slices.items():
        here = _slice(own, number)
        # the first slice begins with the network's own address and that of the bridge
        first = here[2] if number == 0 else here[0]
        last = here[-2] if number == SLICES - 1 else here[-1]
        networks = sorted(str(_slice(network, number)) for network in (own, *others))
        yield {"name": name, "first": str(first), "last": str(last), "networks": networks}


def _slice(network: str, number: int) -> Network:
    """Return a slice of *network*, all of which have the same size."""
    whole = parse_network(network)
    base = int(whole.network_address) + number * (whole.num_addresses >> _BITS)
    return type(whole)((base, whole.prefixlen + _BITS))
