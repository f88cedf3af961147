"""The declared role on a host, and the names that its claims and templates may use."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from pydantic import Field

from rackwright.core.contract import Resource, SpecPart
from rackwright.kinds.shared import ownership


class AboutHost(SpecPart):
    """The value of ``host`` in claims and templates."""

    name: str
    """The name of the host."""
    os: str
    """Operating system of the host."""
    profile: str
    """Profile of the host in the catalogue."""
    drivers: tuple[str, ...] = ()
    """The roles that install drivers for the accelerators of the profile: nvidia_driver, rocm."""


class AboutMirror(SpecPart):
    """The source of the host's packages, and the key of their signatures."""

    url: str
    """The URL of the repository."""
    key: str
    """The OpenPGP public key, in armour."""
    suite: str = ""
    """The suite with the packages of the host; empty: that of its system, without vendors."""
    port: int | None = None
    """The port on the host's loopback interface to which rackwright forwards packages during a change.

    None: the host downloads them by itself.
    """


class AboutFleet(SpecPart):
    """The value of ``fleet`` in claims and templates."""

    name: str
    """The name of the fleet."""
    mirror: AboutMirror | None = None
    """The package source; None: the host has sources of its own."""


class RoleSpec(Resource):
    """A role on its host."""

    role: str
    """The name of the role."""
    identity: dict[str, str]
    """The identity of the machine: serial, uuid, bmc_mac or device_tree_serial, as one entry."""
    about: AboutHost
    """The host, for claims and templates."""
    fleet: AboutFleet
    """The fleet, for claims and templates."""
    variables: dict[str, Any] = Field(default_factory=dict)
    """The declared variables by short name; the role's defaults give the others."""
    reboot: Literal["allowed"] | None = None
    """Consent to a restart of the host if a claim needs one."""

    @property
    def id(self) -> str:
        return f"{self.host}/{self.role}"

    @property
    def owner(self) -> str:
        """The name of the owner file."""
        return f"role-{self.role}"

    @property
    def owner_file(self) -> str:
        return ownership.owner_file(self.owner)


def owner_text(
    spec: RoleSpec,
    phase: str,
    files: Sequence[str],
    boot_id: str | None = None,
    packages: Mapping[str, Sequence[str]] | None = None,
) -> str:
    """Return the content of the owner file: the owner, and the files that the role wrote.

    Args:
        boot_id: The start of the host in which the role was played; its claims hold after the next start.
        packages: The part about packages: see rackwright.kinds.role.shared_packages.
    """
    more = {"boot_id": boot_id} if boot_id else {}
    return ownership.owner_text(spec.id, spec.fleet.name, phase, wrote=sorted(files), **more, **(packages or {}))
