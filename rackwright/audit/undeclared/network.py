"""Rules about the network of a host whose network is declared."""

from collections.abc import Iterator

from rackwright.audit.undeclared.declaration import HostDeclaration
from rackwright.audit.undeclared.paths import unpackaged_in
from rackwright.audit.undeclared.rule import ADMIT, Finding, Rule
from rackwright.facts.facts import Facts
from rackwright.kinds.network.unmanaged import INTERFACES, ifupdown_interfaces

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
    """Yield the routes over declared links that nothing declares; a cluster adds those to the pods of its nodes."""
    if declared.host.network is None or declared.in_cluster:
        return
    expected = {(route.to, route.via) for route in declared.host.network.routes}
    for route in facts.routes:
        if declared.declares(f"link:{route.link}") and (route.destination, route.gateway) not in expected:
            hop = f"via {route.gateway} " if route.gateway else ""
            yield Finding(f"route:{route.destination}", f"{hop}on {route.link}")


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
)
