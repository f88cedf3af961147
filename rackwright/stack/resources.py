"""The resources of a stack, in an order that Pulumi, the audit and the provider all follow."""

from collections.abc import Iterator, Mapping, Sequence
from graphlib import TopologicalSorter
from itertools import product
from typing import Any

from rackwright.core import contract
from rackwright.core.contract import Claim
from rackwright.core.repository import RoleSource
from rackwright.errors import DeclarationError, DeclarationErrors
from rackwright.fleet.place import locate_errors
from rackwright.kinds.host import HostKind, HostSpec
from rackwright.kinds.network import NetworkKind
from rackwright.kinds.network.spec import BondPart, DnsPart, NetworkSpec, PortPart, RoutePart, VlanPart
from rackwright.kinds.peers import PathPart, PeersKind, PeersSpec
from rackwright.kinds.role import RoleKind
from rackwright.kinds.role.spec import AboutFleet, AboutHost, RoleSpec
from rackwright.kinds.shared.drives import DrivePart, HealthPart
from rackwright.kinds.tier import TierKind
from rackwright.kinds.tier.spec import ScrubPart, TierSpec
from rackwright.schema.catalogue import drivers
from rackwright.schema.fleet import stations
from rackwright.schema.health import ANY
from rackwright.schema.host import Drive, Host
from rackwright.schema.network import Network, links, way
from rackwright.schema.tier import Scrub
from rackwright.stack.lock_check import problems as lock_problems
from rackwright.stack.resource import Declared
from rackwright.stack.runs import runs
from rackwright.stack.servers import servers
from rackwright.stack.stack import Stack


def declare(stack: Stack) -> tuple[Declared, ...]:
    """Return every resource of *stack*: host by host, each before what stands on it, then what needs several of them.

    Raises:
        DeclarationErrors: two of them would own the same thing, or the lock is of something else.
    """
    try:
        resources = declare_unchecked(stack)
    except DeclarationErrors as errors:
        raise locate_errors(stack.fleet_file, errors.errors) from None
    several = {name for name, host in stack.fleet.hosts.items() if host.roles or host.network or stack.fleet.uses}
    claims = [
        (declared, contract.claims(declared.kind, declared.spec, stack.repository))
        for declared in resources
        if declared.spec.host in several
    ]
    if wrong := [*_twice(claims), *lock_problems(stack, ((declared.spec, promised) for declared, promised in claims))]:
        raise locate_errors(stack.fleet_file, wrong)
    return resources


def declare_unchecked(stack: Stack) -> tuple[Declared, ...]:
    """Return what `declare` does, whatever two of them would own, and whatever the lock says."""
    hosts = stack.fleet.hosts
    if stack.fleet.uses:
        return (*runs(stack), *servers(stack))
    own = (declared for name, host in hosts.items() for declared in _of_host(stack, name, host))
    return (*own, *_peers(stack))


def _twice(resources: Sequence[tuple[Declared, Sequence[Claim]]]) -> Iterator[DeclarationError]:
    """Yield an error for each thing of a host that a second resource would own."""
    owners: dict[tuple[str, str], str] = {}
    for declared, claims in resources:
        for claim in claims:
            place = declared.spec.host, claim.thing
            if claim.owned and owners.setdefault(place, declared.name) != declared.name:
                got, want = f"got it of {owners[place]} and of {declared.name}", "one thing has one owner"
                where = f"hosts.{declared.spec.host}"
                fix = "Let one of them leave it out, or only need it"
                yield DeclarationError(where, f"{got}: {claim.thing}", want, fix)


def _of_host(stack: Stack, name: str, host: Host) -> Iterator[Declared]:
    common = _common(stack, name, host)
    yield Declared(
        HostKind.token,
        HostSpec(
            **common,
            os=host.os,
            profile=host.profile,
            drives=tuple(map(_part, host.drives)),
            health=_health(host),
            macs=tuple(nic.mac for nic in host.nics if nic.mac),
            pci_addresses=tuple(nic.pci for nic in host.nics if nic.pci),
            mounts=tuple(tier.mount for tier in host.tiers.values() if tier.provided) or None,
        ),
    )
    for tier_name, tier in host.tiers.items():
        if tier.level is None or tier.filesystem is None:
            continue  # somebody else provides it, and the host claims its mount
        members, spares = host.members(tier_name), host.spares(tier_name)
        serials = {drive.serial for drive in (*members, *spares)}
        yield Declared(
            TierKind.token,
            TierSpec(
                **common,
                name=tier_name,
                fleet=stack.fleet.fleet,
                array=tier.array,
                level=tier.level,
                filesystem=tier.filesystem,
                mount=tier.mount,
                key=tier.key,
                tpm2=tier.tpm2,
                chunk_kib=tier.chunk_bytes // 1024,
                bitmap=tier.has_bitmap,
                ppl=tier.ppl,
                options=tier.options,
                sync_speed_max_kib=tier.sync_speed_max and tier.sync_speed_max // 1024,
                scrub=_scrub(tier.scrub),
                wait_for_sync=tier.wait_for_sync,
                members=tuple(map(_part, members)),
                spares=tuple(map(_part, spares)),
                health=_health(host),
                wipe={serial: content for serial, content in host.wipe.items() if serial in serials},
                destroy=tier.destroy,
            ),
            after=(name,),
        )
    if host.network is not None:
        yield Declared(NetworkKind.token, _network(stack, name, host, host.network), after=(name,))
    for role in _in_order(host, stack.repository.roles):
        source = stack.repository.roles[role]
        yield Declared(
            RoleKind.token,
            RoleSpec(
                **common,
                role=role,
                about=AboutHost(name=name, os=host.os, profile=host.profile, drivers=drivers(host.profile)),
                fleet=AboutFleet(name=stack.fleet.fleet, mirror=stack.mirror),
                variables=host.variables(role),
                reboot=host.reboot,
            ),
            after=(name, *(f"{name}/{other}" for other in dict.fromkeys(_before(source, host)))),
        )


def _common(stack: Stack, name: str, host: Host) -> dict[str, Any]:
    """Return what every resource of a host is given."""
    return {
        "host": name,
        "not_rehearsable": stack.not_rehearsable(name),
        "identity": dict([host.identity.strongest]),
    }


def _network(stack: Stack, name: str, host: Host, network: Network) -> NetworkSpec:
    known = links(network, host.nics)
    bond_of = {member: bond for bond in network.bonds for member in network.bonds[bond].members}

    def link(name: str) -> dict[str, Any]:
        return {"name": name, "mtu": known[name].mtu, "addresses": known[name].addresses}

    return NetworkSpec(
        **_common(stack, name, host),
        fleet=stack.fleet.fleet,
        ports=tuple(
            PortPart(**link(nic.name), mac=nic.mac, pci=nic.pci, bond=bond_of.get(nic.name)) for nic in host.nics
        ),
        bonds=tuple(
            BondPart(**link(bond), mode=declared.mode, members=declared.members)
            for bond, declared in network.bonds.items()
        ),
        vlans=tuple(
            VlanPart(**link(vlan), link=declared.link, tag=declared.id) for vlan, declared in network.vlans.items()
        ),
        routes=tuple(
            RoutePart(to=route.destination, via=route.via, on=way(route, known), metric=route.metric)
            for route in network.routes
        ),
        dns=DnsPart(addresses=dns.addresses, search=dns.search) if (dns := network.dns) else None,
        fabric=host.fabric,
        takeover=network.takeover,
        confirm_seconds=network.confirm_seconds,
    )


def _peers(stack: Stack) -> Iterator[Declared]:
    """Yield for each host that has a network declared the ways to all others in its IP networks.

    Where a host has several addresses in one network, it sends from the first.
    """
    hosts = stack.fleet.hosts
    paths: dict[str, list[PathPart]] = {name: [] for name, host in hosts.items() if host.network is not None}
    for several in stations(hosts).values():
        first = {station.host: station for station in reversed(several)}
        for own, peer in product(first.values(), several):
            if own.host in paths and own.host != peer.host:
                made = own.is_made or peer.is_made
                path = PathPart(peer=peer.host, to=peer.address, own=own.address, mtu=own.mtu, made=made)
                paths[own.host].append(path)
    for name, found in paths.items():
        if found:
            spec = PeersSpec(**_common(stack, name, hosts[name]), fleet=stack.fleet.fleet, paths=tuple(found))
            ends = dict.fromkeys((name, *(path.peer for path in found)))
            networks = (f"{end}/network" for end in ends if hosts[end].network is not None)
            yield Declared(PeersKind.token, spec, after=(name, *networks))


def _in_order(host: Host, roles: Mapping[str, RoleSource]) -> tuple[str, ...]:
    """Return the roles of *host*, each after those it comes after."""
    return tuple(
        TopologicalSorter(
            {role: {*roles[role].after, *roles[role].follows} & set(host.roles) for role in host.roles}
        ).static_order()
    )


def _before(source: RoleSource, host: Host) -> Iterator[str]:
    """Yield what of *host* must be right before the role: other roles, tiers where it has them or that it refers to."""
    for other in (*source.after, *source.follows):
        tier = other.removeprefix("tier:")
        if other in host.roles or (tier != other and tier in host.tiers):
            yield tier
    yield from (str(tier) for _, tier in host.tiers_of(source.name))


def _scrub(scrub: Scrub | None) -> ScrubPart | None:
    if scrub is None:
        return None
    return ScrubPart(calendar=scrub.calendar, speed_max_kib=scrub.speed_max and scrub.speed_max // 1024)


def _health(host: Host) -> HealthPart:
    return HealthPart(**{name: limit for name, limit in host.health.model_dump().items() if limit != ANY})


def _part(drive: Drive) -> DrivePart:
    return DrivePart(serial=drive.serial, bus=drive.bus, size_bytes=drive.size, tier=drive.tier, watched=drive.watched)
