"""The keys of vendors whose packages the hosts of a stack install, and those that the lock lacks."""

from collections.abc import Iterator
from typing import NamedTuple

from rackwright.kinds.role.vendor import vendor_of
from rackwright.schema.catalogue import Vendor
from rackwright.stack.stack import Stack


class VendorUse(NamedTuple):
    """A role of a host that installs packages of a vendor without a declared key."""

    host: str
    role: str
    vendor: Vendor
    repository: str
    """Address of the vendor's repository, or of the declared mirror."""


def uses_of_vendors(stack: Stack) -> Iterator[VendorUse]:
    """Yield each role that takes the key of its vendor from the lock."""
    for name, host in stack.fleet.hosts.items():
        for role in host.roles.keys() - stack.roles_left_out(name):
            settings = host.variables(role)
            vendor = vendor_of(stack.repository.roles[role], host.os, settings)
            if vendor is not None and not settings.get("repository_key"):
                yield VendorUse(name, role, vendor, str(settings.get("repository") or vendor.repository))


def missing_vendor_keys(stack: Stack) -> list[VendorUse]:
    """Return the first role of each vendor whose key the lock of *stack* lacks."""
    if stack.fleet.uses or (stack.fleet.mirror is not None and stack.mirror is None):
        return []  # without the lock of a mirror, its absence is the one error
    missing: dict[str, VendorUse] = {}
    for use in uses_of_vendors(stack):
        if use.vendor.fingerprint not in stack.vendor_keys:
            missing.setdefault(use.vendor.fingerprint, use)
    return [*missing.values()]
