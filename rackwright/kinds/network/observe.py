"""Where a network's properties are found in the facts."""

from rackwright.core.contract import Absent, Claim, Value, Within
from rackwright.facts.facts import DeadRoute, Facts, Link, Route
from rackwright.kinds.network import unmanaged
from rackwright.kinds.network.spec import OWNER
from rackwright.kinds.shared import observation
from rackwright.schema.network import DEFAULT, EVERYWHERE

PREFERRED = "preferred"
"""The claim's property for routes that the kernel takes at least as soon as the declared one."""
NETWORKING = "networking.service"
"""Ifupdown's own."""


def look(facts: Facts, sort: str, key: str, name: str, claim: Claim) -> Value:
    match sort:
        case "host":
            return observation.identity(facts, name)
        case "link":
            return _link(facts, key, name, claim)
        case "route":
            return _route(facts, key, name, claim)
        case "resolvers":
            return " ".join(facts.resolvers if name == "servers" else facts.search_domains)
        case "devices":
            return left_over(facts)
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
        return unmanaged.configuring(facts, key, str(mac) if mac else None, str(pci) if pci else None)
    link = facts.link(key)
    if link is None:
        return Absent()
    value = _property(link, name)
    return Absent() if value is None else value


def _property(link: Link, name: str) -> Value | None:
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
        case _:
            return link.parent


def way(gateway: str | None, link: str) -> str:
    """Return how a route is called beside its destination and metric."""
    return f"via {gateway or 'none'} on {link}"


def _route(facts: Facts, key: str, name: str, claim: Claim) -> Value:
    """Look at the route there that is most like the wanted one: others may lead there as well."""
    destination = key.partition(" ")[0]
    ways = [route for route in facts.routes if _destination(route) == destination]
    best = _most_like(ways, claim)
    if name == PREFERRED:
        return _preferred(facts, key, ways, best, claim)
    if best is None:
        return Absent()
    return (best.gateway or "none") if name == "via" else best.link if name == "link" else best.metric


def _most_like(ways: list[Route], claim: Claim) -> Route | None:
    if "metric" in claim.want:
        ways = [route for route in ways if route.metric == claim.want["metric"]] or ways
    here = [route for route in ways if route.link == claim.want["link"]]
    near = here or [route for route in ways if route.gateway == claim.want["via"]]
    return next((route for route in near if route.gateway == claim.want["via"]), near[0] if near else None)


def _preferred(facts: Facts, key: str, ways: list[Route], ours: Route | None, claim: Claim) -> tuple[str, ...]:
    """Return the undeclared routes that the kernel takes before *ours*, or may take as well.

    A default route with a metric stands back behind those of other links: a link that is not declared has one as well.
    """
    if ours is None:  # that it is not there is a difference by itself
        return ()
    destination, _, metric = key.partition(" ")
    if destination in EVERYWHERE.values() and metric:
        ways = [route for route in ways if route.link == ours.link]
    declared = claim.want[PREFERRED]
    assert isinstance(declared, Within)
    before = [way(each.gateway, each.link) for each in ways if each is not ours and each.metric <= ours.metric]
    dead = [each.kind for each in facts.dead_routes if _destination(each) == destination and each.metric <= ours.metric]
    return tuple(sorted({*before, *dead} - {*declared.values}))


def _destination(route: Route | DeadRoute) -> str:
    if route.destination != DEFAULT:
        return route.destination
    return EVERYWHERE[6 if ":" in (route.gateway or "") else 4]


def left_over(facts: Facts) -> tuple[str, ...]:
    """Return the devices that are here and that this network made once, wanted still or not; sorted."""
    made = (facts.owner(OWNER) or {}).get("made", ())
    return tuple(sorted(link.name for link in facts.links if link.name in made and link.kind in ("bond", "vlan")))


def _ifupdown(facts: Facts, name: str) -> Value:
    if name == "interfaces":
        return tuple(sorted(set[str]().union(*unmanaged.ifupdown(facts).values())))
    networking = facts.unit(NETWORKING)
    return networking is not None and networking.enabled == "enabled"
