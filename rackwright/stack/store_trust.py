"""Notices about object stores of the fleet itself whose certificate no computer trusts by default."""

from collections.abc import Iterator, Mapping
from typing import Any

from rackwright.schema.fleet import Fleet
from rackwright.schema.formats import parse_url
from rackwright.schema.object_store import ROLE

ADDRESSES = ("address", "gateway")
"""Variables of the role with an address at which the store answers."""


def trust_notices(fleet: Fleet) -> Iterator[str]:
    """Yield a notice for each object store without `ca` whose certificate the fleet itself signs.

    A store with a certificate of another authority, such as one that this computer trusts, needs no `ca`.
    """
    for name, store in fleet.object_stores.items():
        if store.ca or not store.url.startswith("https://"):
            continue
        address = parse_url(store.url).hostname
        for host, spec in fleet.hosts.items():
            role = spec.roles.get(ROLE)
            if role and address in {role.get(each) for each in ADDRESSES} and (signer := _signer(role)):
                place = f"hosts.{host}.roles.{ROLE}.{signer}"
                problem = (
                    f"object_stores.{name} has no `ca`, and no computer trusts the certificate of {host} by itself"
                )
                yield f"{problem}: write `ca` with the same certificate as {place}"
                break


def _signer(role: Mapping[str, Any]) -> str:
    """Return the variable of *role* with the certificate that signed the store's own one; empty without one."""
    from cryptography.x509 import load_pem_x509_certificates

    try:
        own = load_pem_x509_certificates(str(role["certificate"]).encode())[0]
        for variable in ("authority", "certificate"):
            for signer in load_pem_x509_certificates(str(role.get(variable, "")).encode()):
                if signer.subject == own.issuer:
                    return variable
    except (KeyError, ValueError):  # the check of the role's variables reports another form
        pass
    return ""
