"""Rules about the network of a host whose network is declared."""

from collections.abc import Iterator

from rackwright.audit.undeclared.declaration import HostDeclaration
from rackwright.audit.undeclared.paths import files_in, unpackaged_in
from rackwright.audit.undeclared.rule import ADMIT, Finding, Rule
from rackwright.facts.facts import Facts
from rackwright.kinds.network.observe import destination
from rackwright.kinds.network.unmanaged import INTERFACES, ifupdown_interfaces

FIREWALL = (
    "/etc/nftables.conf",
    "/etc/nftables.d",
    "/etc/iptables",
    "/etc/ufw",
    "/etc/default/ufw",
    "/etc/firewalld",
)
"""Settings of nftables, iptables-persistent, ufw and firewalld."""
OWN_TABLES = "inet rackwright_"
ENGINES = ("podman", "docker.io", "docker-ce", "containerd", "containerd.io")
"""Packages of engines, which make tables for the networks of their containers."""
FOLDERS = ("/etc/netplan", "/etc/systemd/network", "/etc/network/interfaces.d", INTERFACES)


def files(facts: Facts, declared: HostDeclaration) -> Iterator[Finding]:
    if declared.host.network is None:
        return
    stanzas = ifupdown_interfaces(facts)
    for path in unpackaged_in(facts, declared, *FOLDERS):
        if not path.startswith(INTERFACES) or path in stanzas:
            yield Finding(f"file:{path}", "no package and no resource wrote it")


def addresses(facts: Facts, declared: HostDeclaration) -> Iterator[Finding]:
    """Yield the links with addresses that are not declared; the claim on a declared link reports its addresses."""
    for link in facts.links:
        want = declared.wants.get(f"link:{link.name}")
        if declared.host.network is None or link.kind not in ("physical", "bond", "vlan"):
            continue  # engines of containers make bridges of their own
        if want is None and link.addresses and not _is_management(link.addresses, declared):
            yield Finding(f"link:{link.name}", f"{', '.join(link.addresses)} on a link that is not declared")


def _is_management(addresses: tuple[str, ...], declared: HostDeclaration) -> bool:
    return declared.host.address in {address.partition("/")[0] for address in addresses}


def routes(facts: Facts, declared: HostDeclaration) -> Iterator[Finding]:
    """Yield the routes over declared links that nothing claims; those to the pods of other nodes are claims."""
    if declared.host.network is None:
        return
    expected = {
        (name.partition(" ")[0], declared.wants[f"route:{name}"].get("via")) for name in declared.names("route")
    }
    # a declared route that leads elsewhere differs in its claim, and is no second one
    missing = {to for to, _ in expected - {(destination(route), route.gateway) for route in facts.routes}}
    for route in facts.routes:
        is_other = destination(route) not in missing and (destination(route), route.gateway) not in expected
        if declared.declares(f"link:{route.link}") and is_other:
            hop = f"via {route.gateway} " if route.gateway else ""
            yield Finding(f"route:{route.destination}", f"{hop}on {route.link}")


def firewall_files(facts: Facts, declared: HostDeclaration) -> Iterator[Finding]:
    yield from files_in(facts, declared, *FIREWALL)


def firewall_tables(facts: Facts, declared: HostDeclaration) -> Iterator[Finding]:
    """Yield the tables of packet filters that nothing declares; engines and clusters make tables of their own."""
    if declared.in_cluster or any(facts.package(name) for name in ENGINES):
        return
    for table in facts.packet_filters:
        if not table.startswith(OWN_TABLES):
            yield Finding(f"packet_filter:{table}", "in the kernel")


RULES = (
    Rule(
        "RW-050",
        "The network of a host with a declared network has no other configuration.",
        "network files",
        "At the next boot such a file may set up a link in another way.",
        f"Remove the file, declare its links, {ADMIT}",
        "netplan(5); systemd.network(5); interfaces(5)",
        files,
    ),
    Rule(
        "RW-051",
        "Only declared links have addresses.",
        "addresses",
        "Traffic of jobs may take a link without measurements and protection.",
        f"Remove the address, declare the link, {ADMIT}",
        "ip-address(8); facebookincubator/gloo#286",
        addresses,
        scope="hardware",
    ),
    Rule(
        "RW-052",
        "Declared links carry only declared routes.",
        "routes",
        "A route can lead the traffic of a network past its firewall.",
        f"Remove the route with `ip route del`, declare it, {ADMIT}",
        "ip-route(8)",
        routes,
    ),
    Rule(
        "RW-053",
        "The settings of the firewall are those of packages and resources.",
        "settings of the firewall",
        "Such a file opens ports, or closes those of jobs, at the next start of the firewall.",
        f"Remove the file or restore the packaged one, {ADMIT}",
        "nft(8); iptables(8); ufw(8); firewalld(1)",
        firewall_files,
    ),
    Rule(
        "RW-054",
        "Each table of packet filters belongs to a resource or a container engine.",
        "tables of packet filters",
        "Such a table drops, redirects or copies packets, whatever the files of the firewall say.",
        f"Look at the table with `nft list table`, then remove it or {ADMIT.removeprefix('or ')}",
        "nft(8); Linux, include/uapi/linux/netfilter/nf_tables.h",
        firewall_tables,
    ),
)
