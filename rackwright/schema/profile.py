"""Profiles of hardware that a fleet declares for its own classes of hosts."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import AfterValidator, Field, WithJsonSchema

from rackwright.schema import catalogue
from rackwright.schema.base import Amount, Count, Many, Schema
from rackwright.schema.catalogue import GPUS, PROFILES
from rackwright.schema.problem import Problem, hint
from rackwright.schema.units import Size, format_size

if TYPE_CHECKING:
    from rackwright.schema.host import Host

Bus = Literal["nvme", "sas", "sata", "virtio"]
EQUAL_WITHIN = 0.01


def _gpu(model: str) -> str:
    if model not in GPUS:
        help = hint(model, GPUS, "Write one of these, or leave out the GPUs")
        raise Problem(f"got {model!r}", f"a GPU of the catalogue: {', '.join(GPUS)}", help)
    return model


GpuModel = Annotated[str, AfterValidator(_gpu), WithJsonSchema({"type": "string", "enum": list(GPUS)})]


class DriveClass(Schema):
    """Drives of one bus and size."""

    count: Count
    """Minimum number of these drives."""
    bus: Bus
    """Bus of the drives."""
    size: Size
    """Size of each drive as on its label."""


class HardwareProfile(Schema):
    """The minimum hardware of a class of hosts, declared by the fleet."""

    gpus: dict[GpuModel, Count] = Field(default_factory=dict)
    """Number of GPUs by model of the catalogue."""
    memory: Size | None = None
    """Minimum memory of the host."""
    nvswitch: Count | None = None
    """Generation of the NVSwitches between the GPUs, which need Fabric Manager."""
    drives: Many[DriveClass] = ()
    """Drives that each host of the profile declares."""
    nics: Amount = 0
    """Minimum number of ports that each host of the profile declares."""

    def verified_value(self, name: str) -> Any:
        """Return the value *name*, as a profile of the catalogue does; the fleet itself is the source."""
        return getattr(self, name)


Minimum = catalogue.Profile | HardwareProfile
"""The minimum hardware of a host."""


def minimum(profile: str, hardware: HardwareProfile | None) -> Minimum:
    """Return the minimum hardware of *profile*: *hardware* of the fleet, or a row of the catalogue.

    A profile that does not exist, which `problems` reports, has the hardware of `virtual`.
    """
    return PROFILES.get(profile, PROFILES["virtual"]) if hardware is None else hardware


def unknown_profile(profile: str) -> Problem | None:
    """Return the problem of *profile* without hardware of the fleet; None if the catalogue has it."""
    if profile in PROFILES:
        return None
    expected = f"a profile under `profiles` of the fleet, or one of the catalogue: {', '.join(PROFILES)}"
    help = hint(profile, PROFILES, "Take one of these, or declare it under profiles")
    return Problem(f"got {profile!r}", expected, help, ("profile",))


def problems(host: "Host") -> Iterator[Problem]:
    """Yield the drives and ports of its profile that *host* does not declare, and a profile that does not exist."""
    if host.hardware is None:
        if problem := unknown_profile(host.profile):
            yield problem
        return
    for wanted in host.hardware.drives:
        found = sum(
            drive.bus == wanted.bus
            and drive.size is not None
            and abs(drive.size - wanted.size) <= EQUAL_WITHIN * wanted.size
            for drive in host.drives
        )
        if found < wanted.count:
            drives = f"{wanted.bus} drives of {format_size(wanted.size)}"
            yield _shortage(host.profile, f"{found} of {wanted.count} {drives}", "drives")
    if len(host.nics) < host.hardware.nics:
        yield _shortage(host.profile, f"{len(host.nics)} of {host.hardware.nics} ports", "nics")


def _shortage(profile: str, found: str, field: str) -> Problem:
    help = "Declare the others, or use another profile"
    return Problem(f"the host declares {found}", f"the hardware of profile {profile}", help, (field,))
