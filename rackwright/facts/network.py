"""Typed views of the network of a host: links, routes, sockets, and the paths to its peers."""

from functools import cached_property

from rackwright.facts.view import (
    Fact,
    UnknownFact,
    View,
    optional,
    optional_mapping,
    optional_number,
    text_table,
    texts,
    texts_table,
)


class SocketFacts(View):
    """A listening TCP socket, or a UDP socket that is not connected."""

    protocol = Fact(str, "tcp or udp, for both IPv4 and IPv6.")
    address = Fact(str, "Local address; ``0.0.0.0`` and ``::`` stand for all.")
    port = Fact(int, "Port number.")


class LinkFacts(View):
    """A network interface."""

    name = Fact(str, "Name of the interface.")
    kind = Fact(str, "physical, bond, vlan, bridge, loopback, other.")
    mac = Fact(str, "Current MAC address; members of a bond share one.")
    permanent_mac = Fact(str, "MAC address of the hardware; the current one for a link without hardware.")
    mtu = Fact(int, "Largest packet, in bytes.")
    up = Fact(bool, "Whether the link is enabled and has a carrier.")
    carrier = Fact(bool, "Whether the link has a signal; unknown for a disabled link.")
    addresses = Fact(texts, "Addresses of global scope, such as ``192.0.2.11/24``, sorted.")
    master = Fact(optional, "Bond or bridge that has this link as a port.")
    slaves = Fact(texts, "Ports of a bond or bridge, sorted.")
    vlan_id = Fact(optional_number, "VLAN id; None for other links.")
    parent = Fact(optional, "Link that carries the VLAN; None for other links.")
    pci_address = Fact(optional, "``0000:3b:00.0``; None for a link that is no PCI function.")
    bond_mode = Fact(optional, "Mode in the kernel's words: 802.3ad, active-backup.")
    bond_options = Fact(optional_mapping, "Options of a bond by their names in fleets; None for other links.")


class RouteFacts(View):
    """A configured route of the main table; routes that the kernel derives from addresses are left out."""

    destination = Fact(str, "``198.51.100.0/24`` or default.")
    gateway = Fact(optional, "Next hop; None for a destination on the link itself.")
    link = Fact(str, "Name of the interface.")
    metric = Fact(int, "Cost; of two routes to a destination, the cheaper is taken.")


class DeadRoute(View):
    """A route of the main table that discards packets."""

    destination = Fact(str, "Destination network, or default.")
    kind = Fact(str, "blackhole, unreachable, prohibit.")
    metric = Fact(int, "Cost; of two routes to a destination, the cheaper is taken.")
    gateway = Fact(optional, "``::`` for IPv6 and None for IPv4, to distinguish the families.")


class ChosenRoute(View):
    """A route that the kernel takes to addresses of a destination, whatever table it is in."""

    gateway = Fact(optional, "Next hop; None for a destination on the link itself.")
    link = Fact(str, "Name of the interface; none if no route reaches the address.")
    to = Fact(str, "One of the addresses to which the kernel takes it.")


class PeerPathFacts(View):
    """The largest packet that reaches the address of a peer and returns unfragmented."""

    asked = Fact(int, "Size in bytes that the declaration requires; the probe tries no larger one.")
    passed = Fact(int, "Size in bytes of the largest packet that passed.")


class HostNetwork(View):
    """The network of a host."""

    @cached_property
    def links(self) -> tuple[LinkFacts, ...]:
        return self.rows("links", LinkFacts, "name")

    @cached_property
    def dead_routes(self) -> tuple[DeadRoute, ...]:
        return self.rows("dead_routes", DeadRoute, "destination")

    @cached_property
    def routes(self) -> tuple[RouteFacts, ...]:
        return self.rows("routes", RouteFacts, "destination")

    @cached_property
    def sockets(self) -> tuple[SocketFacts, ...]:
        return self.rows("sockets", SocketFacts)

    def chosen_routes(self, destination: str) -> tuple[ChosenRoute, ...]:
        """Return the routes that the kernel takes to addresses of *destination*, a network of the main table."""
        self.find("chosen_routes", destination)
        return self._tables["chosen_routes"].rows(destination, ChosenRoute)

    routing_rules = Fact(texts, "Rules of policy routing that the kernel does not make, and missing ones of its own.")
    odd_routes = Fact(text_table, "Routes of the tables main and local that no address explains, by destination.")
    fixed_neighbours = Fact(text_table, "Neighbours with a fixed address, and those that a link answers for.")
    link_states = Fact(texts_table, "The kernel's kind of each link, its lower link, and its odd flags.")
    traffic_control = Fact(texts_table, "Queues and filters of each link that the kernel does not make by itself.")
    ipsec = Fact(texts, "Policies and states of IPsec.")
    virtual_servers = Fact(texts, "Addresses that the kernel balances over others.")
    diverting_settings = Fact(text_table, "Settings that lead packets elsewhere, of another value than the kernel's.")
    configured_settings = Fact(texts_table, "Values that files of sysctl.d give to settings of the network.")
    resolvers = Fact(texts, "Nameservers in query order.")
    search_domains = Fact(texts, "Domains in which a name without a dot is looked up, in this order.")

    def link(self, name: str) -> LinkFacts | None:
        return next((link for link in self.links if link.name == name), None)

    def port(self, mac: str | None, pci: str | None) -> LinkFacts | None:
        """Return the port with this address; None if every port reports its address and none matches.

        Args:
            mac: Hardware address; ignored if *pci* is given.
            pci: PCI address.
        """
        reason_unknown = None
        for link in self.links:
            try:
                if link.kind in ("physical", "other") and (
                    link.permanent_mac == mac if pci is None else link.pci_address == pci
                ):
                    return link
            except UnknownFact as reason:
                reason_unknown = reason
        if reason_unknown:
            raise reason_unknown
        return None

    def path(self, address: str) -> PeerPathFacts | None:
        """Return the path to the address of a peer; None if the host's list of peers does not have it."""
        return self.entry("paths", address, PeerPathFacts)
