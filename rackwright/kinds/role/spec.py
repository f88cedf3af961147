"""What a role is declared to be on a host, and the names that its claims and templates may use."""

from collections.abc import Sequence
from typing import Any, Literal

from pydantic import Field

from rackwright.core.contract import Part, Resource
from rackwright.kinds.shared import ownership


class AboutHost(Part):
    """What claims and templates see as ``host``."""

    name: str
    os: str
    profile: str
    drivers: tuple[str, ...] = ()
    """The roles that bring drivers for the accelerators of its profile: nvidia_driver, rocm."""


class AboutMirror(Part):
    """Where the host gets packages, and whose signature they have to have."""

    url: str
    key: str
    """A public key of OpenPGP, in armour."""
    port: int | None = None
    """Of the host's loopback interface, where we bring packages while we change it; None: it gets them by itself."""


class AboutFleet(Part):
    """What claims and templates see as ``fleet``."""

    name: str
    mirror: AboutMirror | None = None
    """None: the host has sources of its own."""


class RoleSpec(Resource):
    """A role on its host."""

    role: str
    identity: dict[str, str]
    about: AboutHost
    fleet: AboutFleet
    variables: dict[str, Any] = Field(default_factory=dict)
    """As declared, by their short names; what they leave out the role's defaults say."""
    reboot: Literal["allowed"] | None = None
    """Consent to a restart of the host, where a claim needs one."""

    @property
    def id(self) -> str:
        return f"{self.host}/{self.role}"

    @property
    def owner(self) -> str:
        """The name of its owner file."""
        return f"role-{self.role}"

    @property
    def owner_file(self) -> str:
        return ownership.owner_file(self.owner)


def owner_text(spec: RoleSpec, phase: str, wrote: Sequence[str], boot_id: str | None = None) -> str:
    """Return the owner file: whose role this is, and which files are its own.

    Args:
        boot_id: The start of the host in which all was done for what holds after the next.
    """
    more = {"boot_id": boot_id} if boot_id else {}
    return ownership.owner_text(spec.id, spec.fleet.name, phase, wrote=sorted(wrote), **more)
