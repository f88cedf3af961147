"""The roles of this project on one host, with the variables of their samples."""

from collections.abc import Mapping
from typing import Any

from rackwright.facts.facts import Facts
from rackwright.kinds.role.spec import AboutFleet, AboutHost, RoleSpec
from tests.support import role_sets
from tests.support.role_spec import good


def spec(role: str) -> RoleSpec:
    """Return the spec of *role* on host alpha."""
    return RoleSpec(
        host="alpha",
        role=role,
        identity={"serial": "S1"},
        about=AboutHost(name="alpha", os="debian-12", profile="virtual"),
        fleet=AboutFleet(name="lab"),
        variables=role_sets.samples()[role],
    )


def facts(packages: Mapping[str, str], **owners: Mapping[str, Any]) -> Facts:
    """Return facts of host alpha with these packages and owner records."""
    return Facts({**good(), "packages": packages, "owners": owners})
