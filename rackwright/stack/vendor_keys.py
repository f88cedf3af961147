"""The keys of vendors whose packages the hosts of a stack install, and the check that the lock has them."""

from collections.abc import Iterator
from typing import NamedTuple

from rackwright.errors import Diagnostic, command
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


def vendor_key_problems(stack: Stack) -> Iterator[Diagnostic]:
    """Yield an error for each vendor whose key the lock of *stack* lacks, at the first role that needs it."""
    if stack.fleet.uses or (stack.fleet.mirror is not None and stack.mirror is None):
        return  # without the lock of a mirror, its absence is the one error
    missing: dict[str, VendorUse] = {}
    for use in uses_of_vendors(stack):
        if use.vendor.fingerprint not in stack.vendor_keys:
            missing.setdefault(use.vendor.fingerprint, use)
    for use in missing.values():
        lock = command(f"rackwright lock {'--fetch ' if stack.fleet.mirror else ''}{{}}", stack.name)
        place = f"hosts.{use.host}.roles.{use.role}"
        expected = f"packages of a vendor are signed by its key {use.vendor.fingerprint}"
        help = f"Run {lock}, or declare repository_key"
        if stack.lock:
            problem = f"the lock lacks the key of {use.repository}"
            yield Diagnostic(place, problem, expected, help, id="lock-outdated")
        else:
            problem = f"there is no lock with the key of {use.repository}"
            yield Diagnostic(place, problem, expected, help, id="lock-missing")
