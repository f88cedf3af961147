"""The resources of a stack, in an order that Pulumi, the audit and the provider all follow."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from rackwright.declaration.stack import Stack
from rackwright.kinds import KINDS
from rackwright.kinds.contract import Kind, Resource
from rackwright.kinds.host import DrivePart, HostKind, HostSpec
from rackwright.kinds.tier import TierKind
from rackwright.kinds.tier.spec import TierSpec
from rackwright.spec.host import Drive, Host


@dataclass(frozen=True)
class Declared:
    """One resource: what kind, what is wanted, and after which others."""

    token: str
    spec: Resource
    after: tuple[str, ...] = ()
    """Names of the resources that must be right before this one is touched."""

    @property
    def kind(self) -> Kind[Any]:
        return KINDS[self.token]

    @property
    def name(self) -> str:
        """Pulumi's logical name, and the id: ``host/tier``."""
        return self.kind.id(self.spec)

    @property
    def inputs(self) -> dict[str, Any]:
        """The spec as plain data."""
        return self.spec.model_dump(mode="json", exclude_none=True)


def declare(stack: Stack) -> tuple[Declared, ...]:
    """Return every resource of *stack*, hosts before what stands on them."""
    return tuple(declared for name, host in stack.fleet.hosts.items() for declared in _of_host(stack, name, host))


def _of_host(stack: Stack, name: str, host: Host) -> Iterator[Declared]:
    field, value = host.identity.strongest
    identity = {field: value}
    yield Declared(
        HostKind.token,
        HostSpec(
            host=name,
            not_rehearsable=stack.not_rehearsable,
            identity=identity,
            os=host.os,
            profile=host.profile,
            drives=tuple(map(_part, host.drives)),
            macs=tuple(nic.mac for nic in host.nics),
        ),
    )
    for tier_name, tier in host.tiers.items():
        members = host.members(tier_name)
        serials = {drive.serial for drive in members}
        yield Declared(
            TierKind.token,
            TierSpec(
                host=name,
                not_rehearsable=stack.not_rehearsable,
                name=tier_name,
                fleet=stack.fleet.fleet,
                identity=identity,
                level=tier.level,
                filesystem=tier.filesystem,
                mount=tier.mount,
                chunk_kib=tier.chunk_bytes // 1024,
                bitmap=tier.has_bitmap,
                options=tier.options,
                sync_speed_max_kib=tier.sync_speed_max and tier.sync_speed_max // 1024,
                wait_for_sync=tier.wait_for_sync,
                members=tuple(map(_part, members)),
                wipe={serial: content for serial, content in host.wipe.items() if serial in serials},
                destroy=tier.destroy,
            ),
            after=(name,),
        )


def _part(drive: Drive) -> DrivePart:
    return DrivePart(serial=drive.serial, bus=drive.bus, size_bytes=drive.size, tier=drive.tier)
