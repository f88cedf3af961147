"""The vendor whose packages a role installs: its repository by default, and its key by fingerprint."""

from collections.abc import Mapping
from typing import Any

from rackwright.core.repository import Repository, RoleSource
from rackwright.schema import secret
from rackwright.schema.catalogue import VENDORS, Vendor

_BARE = Repository({})
"""The expression needs no templates."""


def vendor_of(source: RoleSource, os: str, settings: Mapping[str, Any]) -> Vendor | None:
    """Return the vendor of the packages that the role *source* installs with *settings* (by short name), if any."""
    from rackwright.kinds.role.promise import evaluate

    if not source.vendor:
        return None
    variables = source.variables(os, secret.fill(settings, secret.placeholder))
    installs = evaluate(f"{{{{ {source.vendor_when} }}}}", variables, _BARE)
    return VENDORS[source.vendor] if installs else None


def with_vendor(source: RoleSource, os: str, settings: Mapping[str, Any], keys: Mapping[str, str]) -> Mapping[str, Any]:
    """Return *settings* with the vendor's repository and its key, as far as they are not declared.

    Args:
        keys: Known keys in armour, by fingerprint.
    """
    vendor = vendor_of(source, os, settings)
    if vendor is None:
        return settings
    usual = {"repository": vendor.repository, "repository_key": keys.get(vendor.fingerprint, "")}
    return {**settings, **{name: value for name, value in usual.items() if not settings.get(name)}}
