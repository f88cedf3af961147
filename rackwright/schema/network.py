"""The network of a host: bonds, VLANs, routes and name servers on its ports."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from rackwright.schema import formats
from rackwright.schema.base import Many, Schema
from rackwright.schema.formats import no_hosts, parse_address, parse_interface, parse_network
from rackwright.schema.port import Cidr, LinkName, Mtu, Nic
from rackwright.schema.problem import Keys, Problem, hint, raise_any

BondMode = Literal["balance-rr", "active-backup", "balance-xor", "broadcast", "802.3ad", "balance-tlb", "balance-alb"]
HashPolicy = Literal["layer2", "layer2+3", "layer3+4", "encap2+3", "encap3+4"]
LACP = ("802.3ad",)
BOND_OPTIONS: dict[str, tuple[str, ...]] = {
    "lacp_rate": LACP,
    "ad_select": LACP,
    "min_links": LACP,
    "hash_policy": ("balance-xor", "802.3ad", "balance-tlb"),
    "primary": ("active-backup", "balance-tlb", "balance-alb"),
    "up_delay_ms": (),
    "down_delay_ms": (),
}
"""Modes with each option of a bond; empty for all. Source: Linux, Documentation/networking/bonding.rst."""
DELAYS = ("up_delay_ms", "down_delay_ms")
MONITOR_MS = 100
"""Interval at which a bond looks at the signals of its members."""
NAME_SERVERS_MAX = 3
SEARCH_MAX = 6
"""Maximum of search domains, MAXDNSRCH; that of name servers is MAXNS. Source: resolv.conf(5)."""
IPV6_MTU_MIN = 1280
"""MTU below which the kernel removes IPv6 from a link. Source: RFC 8200, section 5."""
DEFAULT = "default"
EVERYWHERE = {4: "0.0.0.0/0", 6: "::/0"}


def _destination(to: str) -> str:
    if to == DEFAULT:
        return to
    try:
        if "/" in to:
            return str(parse_network(to))
    except ValueError as error:
        if "host bits" in str(error):
            near = parse_network(to, strict=False)
            raise Problem(f"got {to!r}", "a destination is a network", f"Write {near}") from None
    expected = "a destination is default, or a network as address/prefix length"
    raise Problem(f"got {to!r}", expected, "Write it like 198.51.100.0/24")


def _address(address: str) -> str:
    try:
        return str(parse_address(address))
    except ValueError:
        pass
    raise Problem(f"got {address!r}", "it is an IP address, without a prefix length", "Write it like 192.0.2.1")


Destination = Annotated[str, AfterValidator(_destination)]
IpAddress = Annotated[str, AfterValidator(_address)]


Delay = Annotated[int, Field(ge=0, le=600_000, json_schema_extra={"multipleOf": MONITOR_MS})]


class Bond(Schema):
    """A bond of several ports, which have no addresses of their own."""

    members: Many[str]
    """Names of the ports in the bond."""
    mode: BondMode
    """Mode of the bond, by the kernel's name."""
    mtu: Mtu | None = None
    """Size of the largest packet in bytes; equal to the MTU of all members, which is the default."""
    addresses: Many[Cidr] = ()
    """IP addresses with their prefix lengths."""
    lacp_rate: Literal["slow", "fast"] | None = None
    """Rate at which the partner sends LACP packets: every 30 seconds, or each second; slow by default."""
    hash_policy: HashPolicy | None = None
    """Headers that choose the member for a packet, by the kernel's name; layer2 by default."""
    ad_select: Literal["stable", "bandwidth", "count"] | None = None
    """Choice among several groups of members with one partner each; stable by default."""
    min_links: Annotated[int, Field(ge=1, le=255)] | None = None
    """Number of members with a signal below which the bond has none."""
    primary: str | None = None
    """Name of the member that is used whenever it has a signal."""
    up_delay_ms: Delay | None = None
    """Milliseconds with a signal after which a member is used; a multiple of 100."""
    down_delay_ms: Delay | None = None
    """Milliseconds without a signal after which a member is not used; a multiple of 100."""

    @property
    def options(self) -> dict[str, str | int]:
        """The declared options by name, beside mode and MTU."""
        return {name: value for name in BOND_OPTIONS if (value := getattr(self, name)) is not None}

    @model_validator(mode="after")
    def _has_options_of_its_mode(self) -> Self:
        raise_any(_option_problems(self))
        return self


def _option_problems(bond: Bond) -> Iterator[Problem]:
    for name, value in bond.options.items():
        modes = BOND_OPTIONS[name]
        if modes and bond.mode not in modes:
            expected = f"bonds of mode {' or '.join(modes)} have it, and this one is {bond.mode}"
            yield Problem(f"got {value}", expected, f"Remove {name}, or correct mode", (name,), "bonding.rst of Linux")
        elif name in DELAYS and int(value) % MONITOR_MS:
            expected = f"a bond looks at the signals of its members every {MONITOR_MS} ms"
            yield Problem(f"got {value}", expected, f"Write {-(-int(value) // MONITOR_MS) * MONITOR_MS}", (name,))
    if bond.primary is not None and bond.primary not in bond.members:
        help = hint(bond.primary, bond.members, "Name one of these")
        yield Problem(f"got {bond.primary!r}", f"members: {', '.join(bond.members)}", help, ("primary",))


class Vlan(Schema):
    """A virtual LAN on a port or a bond."""

    link: str
    """Name of the port or bond that carries it."""
    id: Annotated[int, Field(ge=1, le=4094)]
    """Tag of the VLAN. Source: IEEE 802.1Q."""
    mtu: Mtu | None = None
    """Size of the largest packet in bytes; the MTU of the link by default, and never more."""
    addresses: Many[Cidr] = ()
    """IP addresses with their prefix lengths."""


class Route(Schema):
    """A route to a network outside the host's own subnets."""

    to: Destination
    """``default``, or a network with its prefix length."""
    via: IpAddress
    """The next hop, in a subnet of the host."""
    on: str | None = None
    """Name of the route's port, bond or VLAN; needed if several links reach the next hop."""
    metric: Annotated[int, Field(ge=1, le=2**32 - 1)] | None = None
    """Metric of the route; the kernel prefers the route with the lowest metric."""

    @model_validator(mode="after")
    def _is_of_one_family(self) -> Self:
        if self.to != DEFAULT and _family(self.to) != _family(self.via):
            problem, expected = (
                f"got {self.via!r} for {self.to}",
                "destination and next hop are both IPv4, or both IPv6",
            )
            raise Problem(problem, expected, "Correct one of the two", ("via",))
        return self

    @property
    def destination(self) -> str:
        """The destination as a network, also for ``default``."""
        return EVERYWHERE[_family(self.via)] if self.to == DEFAULT else self.to

    @property
    def name(self) -> str:
        """Name of the route, unique among those of a host."""
        return self.destination if self.metric is None else f"{self.destination} metric {self.metric}"


class Dns(Schema):
    """Name servers and search domains."""

    addresses: Many[IpAddress]
    """Name servers, in the order of queries."""
    search: Many[str] = ()
    """Search domains for names without a dot."""

    @model_validator(mode="after")
    def _is_read_whole(self) -> Self:
        raise_any(_dns_problems(self))
        return self


class Network(Schema):
    """The network of a host. Netplan configures the ports (`nics`) and the links declared here, and nothing else.

    If exactly one link has addresses, it is the fabric; if several have, `fabric` names the one.
    """

    bonds: dict[LinkName, Bond] = Field(default_factory=dict)
    """Bonds by name."""
    vlans: dict[LinkName, Vlan] = Field(default_factory=dict)
    """VLANs by name."""
    routes: Many[Route] = ()
    """Routes to networks outside the host's own subnets."""
    dns: Dns | None = None
    """Name servers and search domains; left unchanged by default."""
    fabric: str | None = None
    """Port, bond or VLAN for NCCL, Gloo and MPI; by default the only link with addresses."""
    takeover: Literal["ifupdown"] | None = None
    """Tool whose files rackwright moves aside if they configure the declared links."""
    confirm_seconds: Annotated[int, Field(ge=30, le=3600)] = 300
    """Seconds that the host waits for a login over a new connection after a change, before it reverts the change."""


@dataclass(frozen=True, slots=True)
class NetworkLink:
    """A port, a bond or a VLAN, with the fields that other links and routes depend on."""

    path: Keys
    """Keys of the link, relative to the host."""
    mtu: int
    addresses: tuple[str, ...]

    def holds(self, address: str) -> bool:
        """Return whether *address* is in one of the link's subnets."""
        other = parse_address(address)
        return any(other in parse_interface(own).network for own in self.addresses)


def links(network: Network, nics: Sequence[Nic]) -> dict[str, NetworkLink]:
    """Return all links by name, in the order of declaration, with inherited MTUs filled in."""
    result = {nic.name: NetworkLink(("nics", index), nic.mtu, nic.addresses) for index, nic in enumerate(nics)}
    for name, bond in network.bonds.items():
        members = [result[member].mtu for member in bond.members if member in result]
        result[name] = NetworkLink(("network", "bonds", name), bond.mtu or min(members, default=1500), bond.addresses)
    for name, vlan in network.vlans.items():
        below = result[vlan.link].mtu if vlan.link in result else 1500
        result[name] = NetworkLink(("network", "vlans", name), vlan.mtu or below, vlan.addresses)
    return result


def fabric(network: Network, nics: Sequence[Nic]) -> str | None:
    """Return the link for NCCL, Gloo and MPI: the declared one, else the only one with addresses, else None."""
    candidates = [name for name, link in links(network, nics).items() if link.addresses]
    return network.fabric or (candidates[0] if len(candidates) == 1 else None)


def environment(interface: str) -> dict[str, str]:
    """Return the environment variables that make NCCL, Gloo and Open MPI use only *interface*.

    NCCL takes a name for a prefix unless ``=`` precedes it. UCX has no variable, because its list of devices would
    also exclude RDMA. Source: NCCL's and Open MPI's documentation.
    """
    return {
        "NCCL_SOCKET_IFNAME": f"={interface}",
        "GLOO_SOCKET_IFNAME": interface,
        "OMPI_MCA_btl_tcp_if_include": interface,
        "OMPI_MCA_oob_tcp_if_include": interface,
        "PRTE_MCA_prte_if_include": interface,
    }


def route_link(route: Route, links: Mapping[str, NetworkLink]) -> str:
    """Return the name of the link of *route*, one of *links*."""
    return route.on or next(name for name, link in links.items() if link.holds(route.via))


def problems(network: Network | None, nics: Sequence[Nic], management: str = "") -> Iterator[Problem]:
    """Yield the conflicts between ports, bonds, VLANs and routes of a host; paths are relative to the host.

    Args:
        management: The address of the host's SSH.
    """
    yield from _duplicate_ports(nics)
    yield from _mtu_problems(links(network or Network(), nics))
    if network is None:
        return
    if not nics:
        yield Problem("got no nics", "a network stands on ports", "Declare them under nics", ("network",))
        return
    yield from _duplicate_names(network, nics)
    yield from _bond_problems(network, nics)
    yield from _vlan_problems(network, nics)
    all_links = links(network, nics)
    yield from _route_problems(network, all_links)
    yield from _destination_problems(network, all_links, management)
    yield from _fabric_problems(network, all_links)


def _mtu_problems(all_links: Mapping[str, NetworkLink]) -> Iterator[Problem]:
    for link in all_links.values():
        if link.mtu < IPV6_MTU_MIN and any(":" in address for address in link.addresses):
            expected, help = f"IPv6 needs an MTU of {IPV6_MTU_MIN} or more", "Raise the MTU, or remove the address"
            yield Problem(f"got an IPv6 address with an MTU of {link.mtu}", expected, help, link.path, "RFC 8200")


def _duplicate_ports(nics: Sequence[Nic]) -> Iterator[Problem]:
    for index, nic in enumerate(nics):
        for other, before in enumerate(nics[:index]):
            if nic.name and nic.name == before.name:  # a port with errors has no name
                path, also = ("nics", index, "name"), ("nics", other, "name")
                expected, note = "each port has its own name", "another port has that name"
                yield Problem(f"got {nic.name!r}", expected, "Rename one of the two", path, note=note, also=also)
            if nic.pci is not None and nic.pci == before.pci:
                path, also = ("nics", index, "pci"), ("nics", other, "pci")
                expected, note = "each port has its own PCI address", "another port has that address"
                yield Problem(f"got {nic.pci!r}", expected, "Correct one of the two", path, note=note, also=also)


def _duplicate_names(network: Network, nics: Sequence[Nic]) -> Iterator[Problem]:
    ports: dict[str, Keys] = {nic.name: ("nics", index, "name") for index, nic in enumerate(nics)}
    bonds: dict[str, Keys] = {name: ("network", "bonds", name) for name in network.bonds}
    for name in network.bonds:
        if name in ports:
            path = ("network", "bonds", name)
            expected, note = "each link has its own name", "a port has that name"
            yield Problem(f"got {name!r}", expected, "Give the bond another name", path, note=note, also=ports[name])
    for name in network.vlans:
        if name in ports or name in bonds:
            noun, also = ("port", ports[name]) if name in ports else ("bond", bonds[name])
            path = ("network", "vlans", name)
            expected, note = "each link has its own name", f"a {noun} has that name"
            yield Problem(f"got {name!r}", expected, "Give the VLAN another name", path, note=note, also=also)


def _bond_problems(network: Network, nics: Sequence[Nic]) -> Iterator[Problem]:
    ports = {nic.name: index for index, nic in enumerate(nics)}
    used: dict[str, Keys] = {}
    for name, bond in network.bonds.items():
        place: Keys = ("network", "bonds", name)
        if not bond.members:
            yield Problem("got no members", "a bond has one port or more", "Name its ports", (*place, "members"))
        for index, member in enumerate(bond.members):
            path = (*place, "members", index)
            if member not in ports:
                help = hint(member, ports, "Declare it under nics, or remove it", taken=bond.members)
                yield Problem(f"got {member!r}", f"ports of this host: {', '.join(ports)}", help, path)
            elif member in used:
                expected, help = "a port is in one bond, once", "Remove it from one of the two"
                yield Problem(f"got {member!r}", expected, help, path, also=used[member])
            else:
                used[member] = path
                yield from _member_problems(nics[ports[member]], name, path, ports[member])
        sizes = {nics[ports[member]].mtu for member in bond.members if member in ports}
        if len(sizes) > 1:
            problem = f"got members with MTUs of {' and '.join(map(str, sorted(sizes)))}"
            yield Problem(problem, "a bond gives all its members one MTU", "Give them the same", (*place, "members"))
        elif bond.mtu is not None and sizes and {bond.mtu} != sizes:
            expected, help = f"its members have {sizes.pop()}", "Remove mtu, or give its members the same"
            yield Problem(f"got {bond.mtu}", expected, help, (*place, "mtu"))


def _member_problems(nic: Nic, bond: str, path: Keys, index: int) -> Iterator[Problem]:
    if nic.addresses:
        expected, help = f"a member of {bond} has no addresses of its own", f"Give them to {bond}, or remove it"
        yield Problem(f"got {nic.name!r} with {', '.join(nic.addresses)}", expected, help, path, also=("nics", index))


def _vlan_problems(network: Network, nics: Sequence[Nic]) -> Iterator[Problem]:
    ports = [nic.name for nic in nics]
    bond_of = {member: name for name, bond in network.bonds.items() for member in bond.members}
    all_links, tags = links(network, nics), dict[tuple[str, int], str]()
    for name, vlan in network.vlans.items():
        place: Keys = ("network", "vlans", name)
        if vlan.link not in (*ports, *network.bonds):
            several = ", ".join((*ports, *network.bonds))
            expected = (
                "a VLAN is not carried by another VLAN" if vlan.link in network.vlans else f"ports and bonds: {several}"
            )
            help = hint(vlan.link, (*ports, *network.bonds), "Name one of these")
            yield Problem(f"got {vlan.link!r}", expected, help, (*place, "link"))
            continue
        if vlan.link in bond_of:
            bond = bond_of[vlan.link]
            yield Problem(f"got {vlan.link!r}", f"it is a member of {bond}", f"Write {bond}", (*place, "link"))
        if vlan.mtu is not None and vlan.mtu > all_links[vlan.link].mtu:
            expected = f"a VLAN has at most the MTU of its link, and {vlan.link} has {all_links[vlan.link].mtu}"
            yield Problem(f"got {vlan.mtu}", expected, "Lower it, or raise that of the link", (*place, "mtu"))
        other = tags.setdefault((vlan.link, vlan.id), name)
        if other != name:
            note, also = f"{other} has that id on {vlan.link} already", ("network", "vlans", other, "id")
            expected = "each VLAN of a link has its own id"
            yield Problem(f"got {vlan.id}", expected, "Correct one of the two", (*place, "id"), note=note, also=also)


def _route_problems(network: Network, all_links: Mapping[str, NetworkLink]) -> Iterator[Problem]:
    first: dict[tuple[str, Any], int] = {}
    for index, route in enumerate(network.routes):
        place: Keys = ("network", "routes", index)
        other = first.setdefault((route.destination, route.metric), index)
        if other != index:
            note, also = "another route leads there, with the same metric", ("network", "routes", other)
            expected = "one route for each destination and metric"
            yield Problem(f"got {route.to!r}", expected, "Remove one of the two", (*place, "to"), note=note, also=also)
        if route.on is not None and route.on not in all_links:
            help = hint(route.on, all_links, "Name one of these")
            yield Problem(f"got {route.on!r}", f"links of this host: {', '.join(all_links)}", help, (*place, "on"))
            continue
        reachable = [name for name, link in all_links.items() if link.holds(route.via) and route.on in (None, name)]
        own = [name for name, link in all_links.items() if route.via in {one.split("/")[0] for one in link.addresses}]
        if own:
            problem, expected = (
                f"got {route.via!r}",
                f"a next hop is another machine, and that is {own[0]} of this host",
            )
            yield Problem(problem, expected, "Write the router's address", (*place, "via"))
        elif _names_the_network(route.via, all_links):
            expected = "a next hop is another machine, and this address means the network or all in it"
            yield Problem(f"got {route.via!r}", expected, "Write the router's address", (*place, "via"))
        elif not reachable:
            where = f"the subnets of {route.on}" if route.on else "every declared subnet of this host"
            help = "Write a neighbour's address, or declare an address in its subnet"
            yield Problem(
                f"got {route.via!r}", f"a next hop is a neighbour, and that is outside {where}", help, (*place, "via")
            )
        elif len(reachable) > 1:
            expected, help = f"{' and '.join(reachable)} could reach it", "Add `on: NAME`"
            yield Problem(f"got {route.via!r}", expected, help, (*place, "via"))


def _names_the_network(address: str, all_links: Mapping[str, NetworkLink]) -> bool:
    """Return whether *address* is the first or last of a link's subnet, which no machine has in IPv4."""
    subnets = [parse_interface(own).network for link in all_links.values() for own in link.addresses]
    return any(str(address) in map(str, no_hosts(subnet)) for subnet in subnets)


def _destination_problems(network: Network, all_links: Mapping[str, NetworkLink], management: str) -> Iterator[Problem]:
    """Yield a problem for each route to a subnet of the host, or to its management network by another link."""
    subnets = {
        name: [parse_interface(address).network for address in link.addresses] for name, link in all_links.items()
    }
    for index, route in enumerate(network.routes):
        to, place = parse_network(route.destination), ("network", "routes", index, "to")
        if to.prefixlen == 0:
            continue
        own = [name for name, several in subnets.items() if any(_contains(subnet, to) for subnet in several)]
        if own:
            expected = f"a route leads outside the host's own subnets, and {own[0]} is in that one"
            yield Problem(f"got {route.to!r}", expected, "Remove the route, or correct it", place)
        elif _has_address(to, management) and not any(link.holds(management) for link in all_links.values()):
            expected = f"the answers to {management}, the host's own address for SSH, would leave by this route"
            yield Problem(f"got {route.to!r}", expected, "Remove the route, or make its network smaller", place)


def _contains(subnet: formats.Network, other: formats.Network) -> bool:
    """Return whether the whole of *other* is in *subnet*."""
    return subnet.version == other.version and other.subnet_of(subnet)  # type: ignore[arg-type]


def _has_address(network: formats.Network, text: str) -> bool:
    """Return whether *text* is an address in *network*; False for a host name."""
    try:
        return parse_address(text) in network
    except ValueError:
        return False


def _fabric_problems(network: Network, all_links: Mapping[str, NetworkLink]) -> Iterator[Problem]:
    candidates = [name for name, link in all_links.items() if link.addresses]
    if network.fabric is not None and network.fabric not in candidates:
        help = hint(network.fabric, candidates, "Name one of these" if candidates else "Remove it")
        expected = f"links with addresses: {', '.join(candidates) or 'none'}"
        yield Problem(f"got {network.fabric!r}", expected, help, ("network", "fabric"))
    elif network.fabric is None and len(candidates) > 1:
        problem, expected = (
            f"got addresses on {', '.join(candidates)}",
            "one of them is the fabric of NCCL, Gloo and MPI",
        )
        yield Problem(problem, expected, f"Add `fabric: {candidates[0]}`, or another of them", ("network",))


def _dns_problems(dns: Dns) -> Iterator[Problem]:
    if not 1 <= len(dns.addresses) <= NAME_SERVERS_MAX:
        problem, expected = f"got {len(dns.addresses)}", f"resolvers use 1 to {NAME_SERVERS_MAX} name servers"
        yield Problem(problem, expected, f"Keep at most {NAME_SERVERS_MAX}", ("addresses",), "resolv.conf(5)")
    if len(dns.search) > SEARCH_MAX:
        problem, expected = f"got {len(dns.search)}", f"resolvers use {SEARCH_MAX} domains at most"
        yield Problem(problem, expected, "Remove the last", ("search",), "resolv.conf(5)")
    for index, domain in enumerate(dns.search):
        if not domain or not all(part and part.replace("-", "").isalnum() for part in domain.split(".")):
            yield Problem(
                f"got {domain!r}", "a domain is names between dots", "Write it like example.org", ("search", index)
            )


def _family(address: str) -> int:
    return 6 if ":" in address else 4
