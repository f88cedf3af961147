"""Rules about everything beside routes and packet filters that decides where packets go."""

from collections.abc import Iterator
from fnmatch import fnmatchcase
from ipaddress import IPv4Network, IPv6Network, ip_network

from rackwright.audit.undeclared.declaration import HostDeclaration
from rackwright.audit.undeclared.network import ENGINES
from rackwright.audit.undeclared.rule import ADMIT, Finding, Rule
from rackwright.facts.facts import Facts
from rackwright.kinds.network.observe import destination

HARDWARE = ("physical", "bond", "vlan")
"""Kinds of links that lead out of the host."""
HIDDEN = (
    "macvlan", "macvtap", "ipvlan", "ipvtap", "dummy", "tun", "vrf", "ifb", "team", "macsec", "wireguard", "gre",
    "gretap", "erspan", "ip6gre", "ip6gretap", "ip6erspan", "ipip", "sit", "ip6tnl", "vti", "vti6", "xfrm", "vxlan",
    "geneve", "bareudp", "gtp", "amt", "l2tp", "hsr", "nlmon", "vlan", "bond",
)  # fmt: skip
"""Kernel's kinds of links that take packets of other links, or send them elsewhere. Source: ip-link(8)."""
OF_CLUSTERS = ("dummy", "vxlan", "tun", "ipip", "sit")
"""Kinds that engines and networks of pods make for themselves."""
FLAGS = {
    "noarp": "it asks for no neighbour and answers none",
    "promiscuous": "it takes the packets of other machines",
    "all multicast": "it takes all multicast packets",
    "no multicast": "it takes no multicast packets, without which IPv6 finds no neighbour",
    "a program of XDP": "a program of XDP sees each packet before the packet filters",
}
FORWARDING = ("forwarding", "ip_forward", "mc_forwarding", "force_forwarding")
Network = IPv4Network | IPv6Network


def _has_engine(facts: Facts, declared: HostDeclaration) -> bool:
    """Return whether programs of containers or a cluster change the network of this host by themselves."""
    return declared.in_cluster or any(facts.package(name) for name in ENGINES)


def _leads_out(facts: Facts, declared: HostDeclaration, name: str) -> bool:
    """Return whether a link is declared, or one of hardware, so that no engine makes it."""
    link = facts.link(name)
    return declared.declares(f"link:{name}") or (link is not None and link.kind in HARDWARE)


def routing_rules(facts: Facts, declared: HostDeclaration) -> Iterator[Finding]:
    yield from (Finding(f"routing_rule:{rule}", "in the kernel") for rule in facts.routing_rules)


def odd_routes(facts: Facts, declared: HostDeclaration) -> Iterator[Finding]:
    """Yield the routes that no address explains, and those that take a part of a declared network elsewhere."""
    if declared.host.network is None:
        return
    for name, text in facts.odd_routes.items():
        yield Finding(f"route:{name}", text)
    networks = list(_declared_networks(declared))
    claimed = {name.partition(" ")[0] for name in declared.names("route")}
    for route in facts.routes:
        to = destination(route)
        if not declared.declares(f"link:{route.link}") and to not in claimed and _is_part(to, networks):
            hop = f" via {route.gateway}" if route.gateway else ""
            yield Finding(f"route:{route.destination}", f"a part of a declared network{hop} on {route.link}")
    for dead in facts.dead_routes:
        if dead.destination not in claimed and _is_part(dead.destination, networks):
            yield Finding(f"route:{dead.destination}", f"a part of a declared network, {dead.kind}")
    for link in facts.links:
        if not declared.declares(f"link:{link.name}") and link.kind != "loopback":
            for address in link.addresses:
                if _is_part(address, networks) and address.partition("/")[0] != declared.host.address:
                    yield Finding(f"route:{address}", f"a part of a declared network on {link.name}")


def _declared_networks(declared: HostDeclaration) -> Iterator[Network]:
    """Yield the networks of declared routes and links; no default route, of which everything is a part."""
    names = [name.partition(" ")[0] for name in declared.names("route")]
    if (network := declared.host.network) is not None:
        names += [each for nic in declared.host.nics for each in nic.addresses]
        names += [each for bond in network.bonds.values() for each in bond.addresses]
        names += [each for vlan in network.vlans.values() for each in vlan.addresses]
    for name in names:
        if (found := _network(name)) is not None and found.prefixlen:
            yield found


def _network(text: str) -> Network | None:
    try:
        return ip_network(text, strict=False)
    except ValueError:
        return None


def _is_part(text: str, networks: list[Network]) -> bool:
    inner = _network(text)
    if inner is None or not inner.prefixlen:
        return False
    return any(
        inner.version == outer.version and inner.prefixlen >= outer.prefixlen and inner[0] in outer
        for outer in networks
    )


def neighbours(facts: Facts, declared: HostDeclaration) -> Iterator[Finding]:
    """Yield the fixed neighbours; on links of containers, engines fix them."""
    has_engine = _has_engine(facts, declared)
    for name, text in facts.fixed_neighbours.items():
        if not has_engine or _leads_out(facts, declared, name.rpartition(" on ")[2]):
            yield Finding(f"neighbour:{name}", text)


def links(facts: Facts, declared: HostDeclaration) -> Iterator[Finding]:
    """Yield the links whose flags change what they take, and undeclared ones that take packets of others."""
    if declared.host.network is None:
        return
    has_engine = _has_engine(facts, declared)
    for name, words in facts.link_states.items():
        is_declared = declared.declares(f"link:{name}")
        flags = [text for word, text in FLAGS.items() if word in words]
        if flags and (is_declared or _leads_out(facts, declared, name)):
            yield Finding(f"link:{name}", ", and ".join(flags))
        kind = next((word.removeprefix("kind ") for word in words if word.startswith("kind ")), "")
        is_hidden = kind in HIDDEN and not (has_engine and kind in OF_CLUSTERS)
        if is_hidden and "up" in words and not is_declared and not _is_management(facts, declared, name):
            above = next((f", {word}" for word in words if word.startswith("above ")), "")
            yield Finding(f"link:{name}", f"an undeclared link of the kind {kind}{above}")


def _is_management(facts: Facts, declared: HostDeclaration, name: str) -> bool:
    """Return whether a link has the address at which rackwright logs in, or carries the link that has it."""
    by_name = {link.name: link for link in facts.links}
    seen: set[str] = set()
    waiting = [
        link.name
        for link in facts.links
        if declared.host.address in {each.partition("/")[0] for each in link.addresses}
    ]
    while waiting:
        current = waiting.pop()
        if current == name:
            return True
        if current not in seen and current in by_name:
            seen.add(current)
            link = by_name[current]
            waiting += [*link.slaves, *((link.parent,) if link.parent else ())]
    return False


def diversions(facts: Facts, declared: HostDeclaration) -> Iterator[Finding]:
    """Yield queues, filters, policies of IPsec and balanced addresses, which come before any route."""
    has_engine = _has_engine(facts, declared)
    for name, texts in facts.traffic_control.items():
        if not has_engine or _leads_out(facts, declared, name):
            yield Finding(f"traffic_control:{name}", ", ".join(texts))
    for text in facts.ipsec:
        yield Finding(f"ipsec:{text}", "in the kernel")
    if not declared.in_cluster:
        for text in facts.virtual_servers:
            yield Finding(f"virtual_server:{text}", "balanced by the kernel")


def settings(facts: Facts, declared: HostDeclaration) -> Iterator[Finding]:
    """Yield the settings that nothing declares, and that no file of the system asks for."""
    found, configured = facts.diverting_settings, facts.configured_settings
    has_engine = _has_engine(facts, declared)
    forwards = has_engine or any(
        name.endswith(FORWARDING) for name in (*declared.names("sysctl"), *_forwarding(configured))
    )
    for key, value in found.items():
        setting = key.rpartition(".")[2]
        if declared.declares(f"sysctl:{key}") or (forwards and setting in FORWARDING):
            continue
        if any(fnmatchcase(key, pattern) and value in values for pattern, values in configured.items()):
            continue
        link = _link_of(key)
        if has_engine and link not in ("", "all", "default", "lo") and not _leads_out(facts, declared, link):
            continue
        if declared.in_cluster and setting == "route_localnet":
            continue  # kube-proxy sets it for ports of nodes
        yield Finding(f"sysctl:{key}", f"{value}, and no file asks for it")


def _forwarding(configured: object) -> Iterator[str]:
    """Yield the settings that let a host forward, of those that files ask for; each of them sets others too."""
    if isinstance(configured, dict):
        yield from (name for name, values in configured.items() if name.endswith(FORWARDING) and "1" in values)


def _link_of(key: str) -> str:
    """Return the link of a setting, with its own dots; empty for a setting of no link."""
    parts = key.split(".")
    return parts[3].replace("/", ".") if parts[2:3] == ["conf"] else ""


RULES = (
    Rule(
        "RW-142",
        "The kernel has no other rules of policy routing than its own.",
        "rules of policy routing",
        "Such a rule sends packets of an account, a mark, a port or an address by another table of routes.",
        f"Look at the rule with `ip rule show`, remove it with `ip rule del`, {ADMIT}",
        "ip-rule(8)",
        routing_rules,
    ),
    Rule(
        "RW-143",
        "Each route that takes packets from declared networks is declared, or follows from an address.",
        "routes beside the declared ones",
        "The host keeps packets for another machine to itself, drops them, or sends them over another link.",
        f"Look with `ip route show table all`, remove the route with `ip route del`, {ADMIT}",
        "ip-route(8); Linux, net/ipv4/fib_frontend.c",
        odd_routes,
        scope="hardware",
    ),
    Rule(
        "RW-144",
        "The kernel finds each neighbour by itself.",
        "fixed neighbours",
        "Packets to that address reach the machine with that hardware address, also if another one has the address.",
        f"Look with `ip neigh show`, remove the entry with `ip neigh del`, {ADMIT}",
        "ip-neighbour(8)",
        neighbours,
    ),
    Rule(
        "RW-145",
        "Links have usual flags, and no undeclared link takes or sends their packets.",
        "flags and kinds of links",
        "Such a link answers for the host under another name, or carries packets past routes and filters.",
        f"Look with `ip -details link show`, remove the link or set the flag back with `ip link`, {ADMIT}",
        "ip-link(8)",
        links,
        scope="hardware",
    ),
    Rule(
        "RW-146",
        "No queue, filter, policy of IPsec or balanced address of the kernel is left to be found.",
        "traffic control and IPsec",
        "It drops, delays, copies or redirects packets before or after routes and packet filters.",
        f"Look with `tc qdisc show`, `ip xfrm policy` and /proc/net/ip_vs, remove what is not needed, {ADMIT}",
        "tc(8); ip-xfrm(8); ipvsadm(8)",
        diversions,
    ),
    Rule(
        "RW-147",
        "Settings of the kernel that lead packets elsewhere come from packages and resources.",
        "settings of packets",
        "The host answers for other addresses, forwards between its networks, or takes packets that it refused.",
        f"Set the value back with `sysctl -w`, or declare the role that needs it, {ADMIT}",
        "Linux, Documentation/networking/ip-sysctl.rst",
        settings,
        scope="kernel",  # a network namespace begins with the values of its computer
    ),
)
