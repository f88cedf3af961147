"""Services, with their certificates and stores."""

import ipaddress
from collections.abc import Mapping
from typing import Literal

from pydantic import Json

from rackwright.core.contract import Between, Want, Within
from rackwright.core.repository import Repository
from rackwright.kinds.role.entries.entry import Entry, without_none


class UnitEntry(Entry):
    """A systemd unit, with the states that `systemctl is-enabled` and `is-active` print."""

    sort = "unit"
    unit: str
    enabled: str | None = "enabled"
    active: str | None = "active"

    def want(self, repository: Repository) -> Mapping[str, Want]:
        return without_none(state=self.enabled, active=self.active)


class CertificateEntry(Entry):
    """A certificate that the host itself makes, for these names, which is valid for another 30 days."""

    sort = "certificate"
    certificate: str
    names: tuple[str, ...]

    def want(self, repository: Repository) -> Mapping[str, Want]:
        names = tuple(sorted({plain_name(name) for name in self.names}))
        return {"names": names, f"valid_for_{CERTIFICATE_DAYS}_days": True, "has_key": True}


def plain_name(name: str) -> str:
    """Return a name of a certificate in one form: openssl writes IPv6 addresses in full."""
    try:
        return str(ipaddress.ip_address(name))
    except ValueError:
        return name


CERTIFICATE_DAYS = 30
"""Days that a certificate still has to be valid."""


class Certificates(Entry):
    """The certificates of a control plane of Kubernetes, none of which expires within *days*."""

    sort = "certificates"
    certificates: Literal["kubernetes"]
    days: int

    def want(self, repository: Repository) -> Mapping[str, Want]:
        return {f"expiring_within_{self.days}_days": ()}


class ObjectStoreEntry(Entry):
    """One aspect of the object store on this host, as its files or its own shell show it."""

    sort = "object_store"
    object_store: Literal["writes", "rights", "rules", "accounts", "stored", "buckets", "owners", "volumes"]
    wanted: Json[tuple[str, ...]] = ()

    def want(self, repository: Repository) -> Mapping[str, Want]:
        wanted = tuple(sorted(self.wanted))
        return {STORE_PROPERTIES[self.object_store]: Within(wanted) if self.object_store == "volumes" else wanted}


STORE_PROPERTIES = {
    "writes": "buffered",
    "rights": "of_others",
    "rules": "for_paths",
    "accounts": "kept_in_the_store",
    "stored": "undeclared",
    "buckets": "set_in_the_shell",
    "owners": "buckets_without_owner",
    "volumes": "copies_and_expiry",
}
"""The property of each aspect of an object store."""


class Measure(Entry):
    """A figure that changes by itself and must stay below a bound; no step changes it."""

    sort = "fact"
    fact: str
    below: float
    by_hand: bool = True

    @property
    def thing(self) -> str:
        return f"measure:{self.fact}"

    def want(self, repository: Repository) -> Mapping[str, Want]:
        return {"value": Between(None, self.below)}
