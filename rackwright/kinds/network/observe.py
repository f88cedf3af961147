"""The observation of a network's properties."""

from rackwright.core.contract import Absent, Claim, Value, Within
from rackwright.facts.facts import Facts
from rackwright.facts.network import DeadRoute, LinkFacts, RouteFacts
from rackwright.facts.view import View
from rackwright.kinds.network import unmanaged
from rackwright.kinds.network.spec import OWNER
from rackwright.kinds.shared import observation
from rackwright.schema.network import BOND_OPTIONS, DEFAULT, DELAYS, EVERYWHERE

PREFERRED = "preferred"
"""The property that lists the routes with a metric at most that of the declared one."""
CHOSEN = "chosen"
"""The property that lists the routes that the kernel takes to the destination, by its own answer."""
PORT_OF = "port_of"
"""The property with the bridge, bond or VRF that has a link as a port, or none."""
NETWORKING = "networking.service"
"""The unit of ifupdown."""


def observe_property(facts: Facts, sort: str, key: str, name: str, claim: Claim) -> Value:
    match sort:
        case "host":
            return observation.identity(facts, name)
        case "link":
            return _link(facts, key, name, claim)
        case "route":
            return observe_route(facts, key, name, claim)
        case "resolvers":
            return " ".join(facts.resolvers if name == "servers" else facts.search_domains)
        case "devices":
            return leftover_devices(facts)
        case "ifupdown":
            return _ifupdown(facts, name)
        case "file":
            return observation.file(facts, key, name)
        case "unit":
            return observation.unit(facts, key, name)
        case "package":
            return observation.package(facts, key, name)
        case _:
            return observation.owner(facts, key, name)


def _link(facts: Facts, key: str, name: str, claim: Claim) -> Value:
    if name == "files_of_others":
        mac, pci = claim.want.get("mac"), claim.want.get("pci")
        return unmanaged.conflicting_files(facts, key, str(mac) if mac else None, str(pci) if pci else None)
    link = facts.link(key)
    if link is None:
        return Absent()
    if name == PORT_OF:
        return link.master or "none"
    value = _property(link, name)
    return Absent() if value is None else value


def _property(link: LinkFacts, name: str) -> Value | None:
    match name:
        case "mac":
            return link.permanent_mac
        case "pci":
            return link.pci_address
        case "kind":
            return link.kind
        case "mtu":
            return link.mtu
        case "up":
            return link.up
        case "addresses":
            return tuple(sorted(link.addresses))
        case "bond":
            return link.master
        case "mode":
            return link.bond_mode
        case "members":
            return tuple(sorted(link.slaves))
        case "id":
            return link.vlan_id
        case option if option in BOND_OPTIONS:
            return _bond_option(link, option)
        case _:
            return link.parent


def _bond_option(link: LinkFacts, name: str) -> Value | None:
    """Return an option of a bond; None for other links.

    Raises:
        UnknownFact: the probe could not read it.
    """
    options = link.bond_options
    if options is None:
        return None
    value: Value = View(options, f"links[{link.name}].bond_options").value(name, str)
    return int(str(value)) if name in ("min_links", *DELAYS) else value


def format_route(gateway: str | None, link: str) -> str:
    """Return the gateway and link of a route as text."""
    return f"via {gateway or 'none'} on {link}"


def observe_route(facts: Facts, key: str, name: str, claim: Claim) -> Value:
    """Return a property of the route that is closest to the wanted one, among all routes to its destination.

    The wanted one names its gateway, and may name its link and its metric.
    """
    network = key.partition(" ")[0]
    routes = [route for route in facts.routes if destination(route) == network]
    best = _closest(routes, claim)
    if name == CHOSEN:
        return () if best is None else _chosen_routes(facts, network)
    if name == PREFERRED:
        return _preferred_routes(facts, key, routes, best, claim)
    if best is None:
        return Absent()
    return (best.gateway or "none") if name == "via" else best.link if name == "link" else best.metric


def _closest(routes: list[RouteFacts], claim: Claim) -> RouteFacts | None:
    if "metric" in claim.want:
        routes = [route for route in routes if route.metric == claim.want["metric"]] or routes
    same_link = [route for route in routes if claim.want.get("link", route.link) == route.link]
    near = same_link or [route for route in routes if route.gateway == claim.want["via"]]
    return next((route for route in near if route.gateway == claim.want["via"]), near[0] if near else None)


def _preferred_routes(
    facts: Facts, key: str, routes: list[RouteFacts], ours: RouteFacts | None, claim: Claim
) -> tuple[str, ...]:
    """Return the undeclared routes that the kernel prefers to *ours*, or may use as well.

    For a default route with a metric only its own link counts: undeclared links have default routes as well.
    """
    if ours is None:  # the absence of *ours* is a difference of its own
        return ()
    network, _, metric = key.partition(" ")
    if network in EVERYWHERE.values() and metric:
        routes = [route for route in routes if route.link == ours.link]
    declared = claim.want[PREFERRED]
    assert isinstance(declared, Within)
    others = [route for route in routes if route is not ours and route.metric <= ours.metric]
    dead = [each.kind for each in facts.dead_routes if destination(each) == network and each.metric <= ours.metric]
    return tuple(sorted({*(format_route(each.gateway, each.link) for each in others), *dead} - {*declared.values}))


def _chosen_routes(facts: Facts, network: str) -> tuple[str, ...]:
    """Return what the kernel answers when it is asked for the route to addresses of *network*."""
    return tuple(sorted({format_route(each.gateway, each.link) for each in facts.chosen_routes(network)}))


def destination(route: RouteFacts | DeadRoute) -> str:
    """Return the destination as a network, also for ``default``."""
    if route.destination != DEFAULT:
        return route.destination
    return EVERYWHERE[6 if ":" in (route.gateway or "") else 4]


def leftover_devices(facts: Facts) -> tuple[str, ...]:
    """Return the present devices that this network created, declared or not; sorted."""
    created = (facts.owner(OWNER) or {}).get("made", ())
    return tuple(sorted(link.name for link in facts.links if link.name in created and link.kind in ("bond", "vlan")))


def _ifupdown(facts: Facts, name: str) -> Value:
    if name == "interfaces":
        return tuple(sorted(set[str]().union(*unmanaged.ifupdown_interfaces(facts).values())))
    networking = facts.unit(NETWORKING)
    return networking is not None and networking.enabled == "enabled"
