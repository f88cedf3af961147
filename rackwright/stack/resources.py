"""The resources of a stack, in the one order that Pulumi, the audit and the provider follow."""

import hashlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from graphlib import TopologicalSorter
from typing import Any

from rackwright.core import contract
from rackwright.core.contract import Claim
from rackwright.core.repository import RoleSource
from rackwright.errors import DeclarationError, Diagnostic
from rackwright.fleet.place import locate_errors
from rackwright.kinds.host import HostKind, HostSpec
from rackwright.kinds.network import NetworkKind
from rackwright.kinds.network.spec import NetworkSpec
from rackwright.kinds.peers import PathPart, PeersKind, PeersSpec
from rackwright.kinds.role import RoleKind
from rackwright.kinds.role.spec import AboutFleet, AboutHost, RoleSpec
from rackwright.kinds.role.vendor import with_vendor
from rackwright.kinds.tier import TierKind
from rackwright.kinds.tier.spec import TierSpec
from rackwright.schema.catalogue import drivers
from rackwright.schema.fleet import Fleet, Station, stations
from rackwright.schema.host import Host
from rackwright.stack.buckets import buckets, store_prerequisites
from rackwright.stack.clusters import (
    clusters,
    control_planes_first,
    joining_control_plane,
    role_prerequisites,
    role_variables,
    routes,
    version_problems,
)
from rackwright.stack.lock_check import problems as lock_problems
from rackwright.stack.owners import duplicate_owners
from rackwright.stack.pod_gpus import plugin_problems
from rackwright.stack.resource import DeclaredResource
from rackwright.stack.stack import Stack


def declare(stack: Stack, workload: str | None = None) -> tuple[DeclaredResource, ...]:
    """Return all resources of *stack*: host by host, each host first, then the resources that need several hosts.

    Args:
        workload: The name of the only run or server of a stack of workloads to return. Models of other servers may be
            missing then: they say nothing about the state of this one.

    Raises:
        DeclarationError: two resources would have one name or own the same thing, or the lock does not match.
    """
    try:
        resources = declare_unchecked(stack, workload)
    except DeclarationError as errors:
        raise locate_errors(stack.fleet_file, errors.diagnostics) from None
    check_together(stack, resources)
    return resources


def check_together(stack: Stack, resources: Sequence[DeclaredResource]) -> None:
    """Check all *resources* of *stack* beside each other, and against its lock.

    Raises:
        DeclarationError: two resources would have one name or own the same thing, or the lock does not match.
    """
    shared = {each.spec.facts_source for each in resources if not isinstance(each.spec, HostSpec | TierSpec)}
    claims = [
        (resource, contract.claims(resource.kind, resource.spec, stack.repository))
        for resource in resources
        if resource.spec.facts_source in shared  # the schema keeps tiers apart, and computing their claims takes time
    ]
    lock_errors = lock_problems(stack, ((resource.spec, promised) for resource, promised in claims))
    names = _duplicate_names(stack.fleet, resources)
    owners = duplicate_owners([*_roles_beside(stack, resources), *claims], stack.repository.roles)
    of_stack = (*version_problems(stack), *plugin_problems(stack))
    if wrong := [*names, *owners, *of_stack, *lock_errors]:
        raise locate_errors(stack.fleet_file, wrong)


def _roles_beside(
    stack: Stack, resources: Sequence[DeclaredResource]
) -> Iterator[tuple[DeclaredResource, Sequence[Claim]]]:
    """Yield the roles of hosts that run *resources* of another fleet, with their claims."""
    if not stack.fleet.uses:
        return
    for name in dict.fromkeys(resource.spec.facts_source for resource in resources):
        if isinstance(name, str) and name in stack.fleet.hosts:
            for resource in _host_resources(stack, name, stack.fleet.hosts[name]):
                if isinstance(resource.spec, RoleSpec):
                    yield resource, contract.claims(resource.kind, resource.spec, stack.repository)


def declare_unchecked(stack: Stack, workload: str | None = None) -> tuple[DeclaredResource, ...]:
    """Return all resources of *stack* like `declare`, without the checks of owners and of the lock."""
    if stack.fleet.uses:
        return _workloads(stack, workload)
    hosts = control_planes_first(stack.fleet)
    own = (resource for name, host in hosts for resource in _host_resources(stack, name, host))
    return (*own, *_peers(stack), *clusters(stack), *buckets(stack))


def _workloads(stack: Stack, only: str | None) -> tuple[DeclaredResource, ...]:
    """Return the resources of all runs and servers, or of those with the name *only*.

    Raises:
        DeclarationError: runs or servers are invalid, or share GPUs.
    """
    from rackwright.stack import gpus
    from rackwright.stack.runs import runs
    from rackwright.stack.servers import servers

    assignments, overlaps = gpus.assign(stack)
    resources: list[DeclaredResource] = []
    wrong: list[Diagnostic] = []
    for declare, names in ((runs, stack.fleet.runs), (servers, stack.fleet.servers)):
        try:
            resources += declare(stack, assignments, [name for name in names if only in (None, name)])
        except DeclarationError as errors:
            wrong += errors.diagnostics
    if wrong := [*wrong, *overlaps]:
        raise DeclarationError(*wrong)
    return tuple(resources)


def _duplicate_names(fleet: Fleet, resources: Sequence[DeclaredResource]) -> Iterator[Diagnostic]:
    """Yield an error for each tier that has the name of another resource of its host."""
    for resource in resources:
        host, _, name = resource.name.partition("/")
        if host not in fleet.hosts:
            continue
        if not fleet.uses and not isinstance(resource.spec, TierSpec) and name in fleet.hosts[host].tiers:
            expected, help = "each resource of a host has its own name", "Give the tier another name"
            note = f"the {resource.token.rpartition(':')[2]} resource of this host has that name"
            yield Diagnostic(f"hosts.{host}.tiers.{name}", f"got the tier {name}", expected, help, note)


def _host_resources(stack: Stack, name: str, host: Host) -> Iterator[DeclaredResource]:
    common = _common(stack, name, host)
    yield DeclaredResource(
        HostKind(),
        HostSpec(
            **common,
            os=host.os,
            profile=host.profile,
            hardware=host.hardware,
            drives=host.drives,
            health=host.health,
            macs=tuple(nic.mac for nic in host.nics if nic.mac),
            pci_addresses=tuple(nic.pci for nic in host.nics if nic.pci),
            mounts=tuple(tier.mount for tier in host.tiers.values() if tier.provided) or None,
        ),
    )
    for tier_name, tier in host.tiers.items():
        if tier.level is None or tier.filesystem is None:
            continue  # the tier is provided by others, and the host claims its mount
        members, spares = host.members(tier_name), host.spares(tier_name)
        serials = {drive.serial for drive in (*members, *spares)}
        yield DeclaredResource(
            TierKind(),
            TierSpec(
                **common,
                name=tier_name,
                fleet=stack.fleet.fleet,
                declared=tier,
                members=members,
                spares=spares,
                health=host.health,
                wipe={serial: content for serial, content in host.wipe.items() if serial in serials},
            ),
            after=(name,),
        )
    if host.network is not None:
        devices = (*host.network.bonds, *host.network.vlans)
        network = host.network.model_copy(update={"routes": (*host.network.routes, *routes(stack, name))})
        yield DeclaredResource(
            NetworkKind(),
            NetworkSpec(**common, fleet=stack.fleet.fleet, declared=network, ports=host.nics, devices=devices),
            after=(name,),
        )
    roles = stack.repository.roles
    present = host.roles.keys() - stack.roles_left_out(name)
    for role in _sort_roles(present, roles):
        source, variables, keys = roles[role], host.variables(role), stack.vendor_keys
        yield from joining_control_plane(stack, name, role)
        yield DeclaredResource(
            RoleKind(),
            RoleSpec(
                **common,
                role=role,
                about=AboutHost(name=name, os=host.os, profile=host.profile, drivers=drivers(host.minimum.gpus)),
                fleet=AboutFleet(name=stack.fleet.fleet, mirror=stack.mirror_of(name)),
                variables={**role_variables(stack, name, role), **with_vendor(source, host.os, variables, keys)},
                reboot=host.reboot,
            ),
            after=(
                name,
                *(f"{name}/{other}" for other in dict.fromkeys(_prerequisites(source, host, present, roles))),
                *role_prerequisites(stack, name, role),
                *store_prerequisites(stack, name, role),
            ),
        )


def _common(stack: Stack, name: str, host: Host) -> dict[str, Any]:
    """Return the fields that every spec of a host has."""
    return {
        "host": name,
        "not_rehearsable": stack.not_rehearsable(name),
        "identity": dict([host.identity.strongest]),
    }


def _peers(stack: Stack) -> Iterator[DeclaredResource]:
    """Yield the peers of each host with a declared network: its paths to other hosts in its IP networks.

    A host with several addresses in one network sends from the first.
    """
    hosts = stack.fleet.hosts
    paths: dict[str, list[PathPart]] = {name: [] for name, host in hosts.items() if host.network is not None}
    for several in stations(hosts).values():
        by_host: dict[str, list[Station]] = {}
        for station in several:
            by_host.setdefault(station.host, []).append(station)
        for name, chosen in _choose_peers([*by_host]).items():
            own = by_host[name][0]
            for peer in (station for other in chosen if name in paths for station in by_host[other]):
                made = own.is_virtual or peer.is_virtual
                path = PathPart(peer=peer.host, to=peer.address, own=own.address, mtu=own.mtu, made=made)
                paths[name].append(path)
    for name, own_paths in paths.items():
        if own_paths:
            spec = PeersSpec(**_common(stack, name, hosts[name]), fleet=stack.fleet.fleet, paths=tuple(own_paths))
            ends = dict.fromkeys((name, *(path.peer for path in own_paths)))
            networks = (f"{end}/network" for end in ends if hosts[end].network is not None)
            yield DeclaredResource(PeersKind(), spec, after=(name, *networks))


PEERS_MAX = 16
"""Peers of a host in one IP network. A path is measured there and back, so that 32 paths measure the port of a host."""


def _choose_peers(names: Sequence[str]) -> dict[str, list[str]]:
    """Return the peers of each host of one network: all others, or the next PEERS_MAX of a ring.

    The ring is in the order of digests of the names. Hosts that are next to each other in a rack are therefore not
    neighbours in it, and one more host changes the peers of PEERS_MAX others.
    """
    ring = sorted(names, key=lambda name: hashlib.sha256(name.encode()).digest())
    order = {name: number for number, name in enumerate(names)}
    count = min(PEERS_MAX, len(ring) - 1)
    twice = [*ring, *ring]
    return {name: sorted(twice[at + 1 : at + 1 + count], key=order.__getitem__) for at, name in enumerate(ring)}


def _sort_roles(present: Collection[str], roles: Mapping[str, RoleSource]) -> tuple[str, ...]:
    """Return the roles *present* on a host, each after the roles that must come before it."""
    graph = {role: {*_roles_before(roles[role], present, roles)} for role in sorted(present)}
    return tuple(TopologicalSorter(graph).static_order())


def _roles_before(source: RoleSource, present: Collection[str], roles: Mapping[str, RoleSource]) -> Iterator[str]:
    """Yield the roles that must come before the role *source*; those before a role that is not *present* for that."""
    for other in (*source.after, *source.follows):
        if other in present:
            yield other
        elif other in roles:
            yield from _roles_before(roles[other], present, roles)


def _prerequisites(
    source: RoleSource, host: Host, present: Collection[str], roles: Mapping[str, RoleSource]
) -> Iterator[str]:
    """Yield the names of the resources of *host* that must be as declared before the role changes."""
    yield from _roles_before(source, present, roles)
    for other in (*source.after, *source.follows):
        tier = other.removeprefix("tier:")
        if tier != other and tier in host.tiers:
            yield tier
    # others provide the rest, and the host claims their mounts
    yield from (str(tier) for _, tier in host.tiers_of(source.name) if not host.tiers[tier].provided)
    if host.network is not None and "listen_address" in source.formats.values():
        yield "network"  # a program cannot listen on an address that the host does not have yet
