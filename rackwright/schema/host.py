"""Hosts: identity, hardware, and desired state."""

import re
from collections import Counter
from collections.abc import Iterator
from typing import Annotated, Any, Literal, Self
from uuid import UUID

from pydantic import AfterValidator, Field, model_validator

from rackwright.schema import accelerator, metric_files, reference
from rackwright.schema import profile as profiles
from rackwright.schema.alerts import Alerts
from rackwright.schema.base import SEVERAL_LINES, Many, Schema
from rackwright.schema.health import Health
from rackwright.schema.maintenance import Maintenance
from rackwright.schema.needs import Needs
from rackwright.schema.network import Network, fabric
from rackwright.schema.network import problems as network_problems
from rackwright.schema.port import Mac, Nic
from rackwright.schema.problem import Keys, Problem, hint, raise_any
from rackwright.schema.profile import EQUAL_WITHIN, Bus, HardwareProfile, Minimum
from rackwright.schema.ssh import Ssh, parse_address
from rackwright.schema.tier import MEMBERS, SLOTS_MAX, Tier
from rackwright.schema.units import Size, format_size

Os = Literal["debian-12", "debian-13", "ubuntu-22.04", "ubuntu-24.04"]

NAME = r"[a-z0-9]([a-z0-9-]*[a-z0-9])?"
NAME_MAX = 63
NUMBER = r"[0-9]+|0x[0-9a-f]*"
"""Names that resolvers take for an IPv4 address: `1` is 0.0.0.1. Source: inet_aton(3)."""
ANSIBLE_NAMES = ("all", "localhost", "ungrouped")
"""Names that Ansible itself uses for groups and this computer."""
KERNEL_NAME = r"/dev/.*|(s|h|v|xv)d[a-z]+[0-9]*|nvme[0-9]+(n[0-9]+)?(p[0-9]+)?|(dm-|md|mmcblk)[0-9]+(p[0-9]+)?"
UNITS_MAX = 60
"""Units of the highest rack."""
PLACEHOLDERS = {"", "none", "default string", "not specified", "to be filled by o.e.m.", "system serial number", "0"}


def _name(name: str) -> str:
    if not re.fullmatch(NAME, name) or len(name) > NAME_MAX:
        near = re.sub(r"[^a-z0-9]+", "-", name.lower())[:NAME_MAX].strip("-")
        expected = f"a name has small letters, digits and inner hyphens, {NAME_MAX} at most"
        raise Problem(f"got the name {name!r}", expected, f"Write {near}" if near else "Give it a name")
    return name


def _host_name(name: str) -> str:
    if re.fullmatch(NUMBER, name):
        expected = "a host's name has a letter, because resolvers take a number for an IP address"
        raise Problem(f"got the name {name!r}", expected, f"Write host-{name}", source="inet_aton(3)")
    if name in ANSIBLE_NAMES:
        expected = f"Ansible itself uses the names {', '.join(ANSIBLE_NAMES)}"
        raise Problem(f"got the name {name!r}", expected, "Give it another name")
    return name


def _identity_text(text: str) -> str:
    """Return *text*, an identity from firmware, without characters that template engines or terminals interpret."""
    if re.search(r"[^ -~]|[{}]", text):
        expected = "an identity is printable ASCII text without braces"
        raise Problem(f"got {text!r}", expected, "Copy it from `dmidecode -t system` on the host")
    return text


def _serial(serial: str) -> str:
    if re.fullmatch(KERNEL_NAME, serial):
        raise Problem(
            f"got {serial!r}",
            "a drive is named by its serial number: kernel names change between boots",
            "Copy the serial from `lsblk -dno NAME,SERIAL` on the host",
        )
    if not serial or re.search(r"[^!-~]|[{}]", serial.replace(" ", "")) or serial != serial.strip():
        expected = "a serial is printable text without braces, and without blanks around it"
        raise Problem(f"got {serial!r}", expected, "Copy it from `lsblk -dno NAME,SERIAL` on the host")
    return serial


def _uuid(uuid: str) -> str:
    try:
        return str(UUID(uuid))
    except ValueError:
        expected, help = "a UUID is 32 hex digits in five groups", "Copy it from `dmidecode -s system-uuid`"
        raise Problem(f"got {uuid!r}", expected, help) from None


Name = Annotated[str, AfterValidator(_name), Field(json_schema_extra={"pattern": f"^{NAME}$", "maxLength": NAME_MAX})]
HostName = Annotated[Name, AfterValidator(_host_name), Field(json_schema_extra={"not": {"pattern": f"^({NUMBER})$"}})]
IdentityText = Annotated[str, AfterValidator(_identity_text)]
Serial = Annotated[str, AfterValidator(_serial), Field(json_schema_extra={"not": {"pattern": f"^({KERNEL_NAME})$"}})]
Address = Annotated[str, AfterValidator(parse_address)]


class Identity(Schema):
    """Identity of a host's machine, by the first field that is declared. rackwright refuses another machine."""

    serial: IdentityText | None = None
    """Serial number of the chassis."""
    uuid: Annotated[str, AfterValidator(_uuid)] | None = None
    """Product UUID."""
    bmc_mac: Mac | None = None
    """MAC address of the management controller."""
    device_tree_serial: IdentityText | None = None
    """Serial number in the device tree, for machines without SMBIOS."""

    @model_validator(mode="after")
    def _has_a_field(self) -> Self:
        fields = self.model_dump(exclude_none=True)
        raise_any(
            Problem(f"got {value!r}", "a placeholder is no identity", f"Take another of {_FIELDS}", (field,))
            for field, value in fields.items()
            if value.strip().lower() in PLACEHOLDERS or not set(value) - set("0-:. ")
        )
        if not fields:
            raise Problem("got nothing", f"a host has one of {_FIELDS}", "Add the one that `dmidecode -t system` shows")
        return self

    @property
    def strongest(self) -> tuple[str, str]:
        """The first declared field, as (field, value)."""
        return next((name, value) for name in type(self).model_fields if (value := getattr(self, name)) is not None)


_FIELDS = ", ".join(Identity.model_fields)


class Drive(Schema):
    """One physical disk of a host."""

    serial: Serial
    """Serial number from `lsblk -dno NAME,SERIAL`; never a kernel name."""
    bus: Bus | None = None
    """Bus of the drive; required for members of a tier."""
    size: Size | None = None
    """Size on the label, compared with a tolerance of 1 %; required for members of a tier."""
    boot: bool = False
    """Whether the drive carries the operating system, and so never is a member of a tier."""
    tier: str | None = None
    """Name of the drive's tier."""
    spare: bool = False
    """Whether the drive is a spare, which waits in its tier until a member fails."""
    watched: bool = True
    """Whether the drive's health is checked; false for drives that cannot report it, as behind a RAID controller."""

    @model_validator(mode="after")
    def _serves_one_purpose(self) -> Self:
        if self.boot and self.tier:
            expected, help = "a boot drive is never a member of a tier", "Leave one of the two out"
            raise Problem(f"got {self.tier!r} beside boot: true", expected, help, ("tier",))
        if self.spare and not self.tier:
            raise Problem("got spare: true", "a spare waits in a tier", "Add tier, or leave spare out", ("spare",))
        missing = [name for name in ("bus", "size") if self.tier and getattr(self, name) is None]
        if missing:
            problem, help = f"got no {' and no '.join(missing)}", f"Add {' and '.join(missing)}"
            raise Problem(problem, "a member of a tier has its bus and its size declared", help)
        return self


class RackPlace(Schema):
    """Place of a host in a rack, which `rackwright status --page` draws."""

    name: Name
    """Name of the rack."""
    unit: Annotated[int, Field(ge=1, le=UNITS_MAX)]
    """Lowest unit of the host; unit 1 is at the bottom of the rack."""
    height: Annotated[int, Field(ge=1, le=UNITS_MAX)] = 1
    """Height of the host in units."""

    @model_validator(mode="after")
    def _is_inside(self) -> Self:
        if self.top > UNITS_MAX:
            problem = f"got unit {self.unit} with height {self.height}, which ends at unit {self.top}"
            help = "Lower the unit, which is the lowest one of the host"
            raise Problem(problem, f"a rack has {UNITS_MAX} units at most", help, ("unit",))
        return self

    @property
    def top(self) -> int:
        """The highest unit of the host."""
        return self.unit + self.height - 1


class Host(Schema):
    """A machine that rackwright manages, with its group's settings merged in."""

    address: Address
    """Address of the host's SSH: an IP address or a host name."""
    identity: Identity
    """Identity of the machine, so that rackwright notices another machine in its place."""
    os: Os
    """Operating system, which is checked, and determines the names of packages and services."""
    group: str | None = None
    """Group whose settings the host, or another group, inherits; its own settings override them."""
    rack: RackPlace | None = None
    """Place of the host in a rack; no two hosts share a unit of one rack."""
    profile: Name = "virtual"
    """Profile with the hardware that the host must have: one of the fleet's `profiles`, or of the catalogue."""
    hardware: HardwareProfile | None = None
    """Minimum hardware of the profile; a fleet in YAML declares it under `profiles`."""
    drives: Many[Drive] = ()
    """All drives of the host, boot drives included."""
    nics: Many[Nic] = ()
    """Network ports that rackwright checks."""
    network: Network | None = None
    """Bonds, VLANs, routes and name servers. If it is declared, rackwright also configures the ports."""
    tiers: dict[Name, Tier] = Field(default_factory=dict)
    """Storage tiers by name."""
    roles: Annotated[dict[str, dict[str, Any]], SEVERAL_LINES] = Field(default_factory=dict)
    """Software of the host: roles by name, with the variables from each role's argument specification."""
    needs: Needs = Needs()
    """Software that the host must be able to run, checked against its GPUs and driver before installation."""
    ssh: Ssh = Ssh()
    """SSH port, jump host and logins."""
    alerts: Alerts = Alerts()
    """Alert thresholds for GPUs, drives and the host itself."""
    health: Health = Health()
    """Health thresholds for the drives."""
    reboot: Literal["allowed"] | None = None
    """Consent to restart the drained host if a role needs it; without consent the operator restarts it."""
    maintenance: Maintenance | None = None
    """Period in which rackwright does not touch the host; previews and audits report it."""
    retired: bool = False
    """Whether rackwright releases the host unchanged: it manages nothing on the host any more, and removes nothing."""
    wipe: dict[str, str] = Field(default_factory=dict)
    """Consent to lose the content of drives, by serial number: the signature that the preview printed. A consent covers
    exactly that content."""

    @model_validator(mode="after")
    def _drives_and_tiers_agree(self) -> Self:
        raise_any(problems(self))
        return self

    @property
    def fabric(self) -> str | None:
        """The interface for NCCL, Gloo and MPI; None without a declared network with addresses."""
        return None if self.network is None else fabric(self.network, self.nics)

    @property
    def minimum(self) -> Minimum:
        """The minimum hardware of the host's profile."""
        return profiles.minimum(self.profile, self.hardware)

    @property
    def accelerators(self) -> accelerator.Accelerators:
        """The host's choices about its accelerators."""
        # the valid part of a host with a wrong os has none
        system = self.os if "os" in self.model_fields_set else None
        return accelerator.read_choices(system, self.minimum, self.roles, self.needs)

    def variables(self, role: str) -> dict[str, Any]:
        """Return the variables of *role*: the declared ones, and those that follow from the host's GPUs and roles."""
        declared = self.declared_variables(role)
        if role == metric_files.EXPORTER:
            return metric_files.variables(self.roles, declared)
        if role != accelerator.WITH_DEFAULTS:
            return declared  # the choices of a host take longer than its variables
        return accelerator.variables(self.accelerators, declared)

    def declared_variables(self, role: str) -> dict[str, Any]:
        """Return the declared variables of *role*, with mount points in place of references to tiers."""
        variables: dict[str, Any] = reference.fill(self.roles[role], "tier", lambda name: self.tiers[name].mount)
        return variables

    @property
    def tier_names(self) -> frozenset[str]:
        """The names of the tiers, with those whose declaration has errors of its own."""
        return frozenset(self.tiers)

    def tiers_of(self, role: str) -> tuple[tuple[Keys, Any], ...]:
        """Return the keys and names of the tiers to which the variables of *role* refer."""
        return tuple(reference.references(self.roles[role], "tier"))

    def members(self, tier: str) -> tuple[Drive, ...]:
        """Return the active drives of *tier*, in the order of the declaration."""
        return tuple(drive for drive in self.drives if drive.tier == tier and not drive.spare)

    def spares(self, tier: str) -> tuple[Drive, ...]:
        """Return the spares of *tier*, in the order of the declaration."""
        return tuple(drive for drive in self.drives if drive.tier == tier and drive.spare)


def problems(host: Host) -> Iterator[Problem]:
    """Yield the conflicts between the parts of one host."""
    yield from profiles.problems(host)
    members = {drive.serial for drive in host.drives if drive.tier}
    for index, drive in enumerate(host.drives):
        if drive.tier and drive.tier not in host.tiers:
            help = hint(drive.tier, host.tiers, "Declare it under tiers, or remove tier")
            tiers = ", ".join(host.tiers) or "none"
            yield Problem(f"got {drive.tier!r}", f"tiers of this host: {tiers}", help, ("drives", index, "tier"))
    for serial in host.wipe:
        if serial not in members:
            expected, help = "consent is for a drive of this host's tiers", "Correct the serial, or remove the line"
            yield Problem(f"got {serial!r}", expected, help, ("wipe", serial))
    for name, tier in host.tiers.items():
        yield from _member_problems(host, name, tier)
    yield from _mount_problems(host.tiers)
    yield from network_problems(host.network, host.nics, host.address)
    yield from accelerator.problems(host.accelerators)


def _member_problems(host: Host, name: str, tier: Tier) -> Iterator[Problem]:
    members, spares = host.members(name), host.spares(name)
    if tier.level is None:
        if count := len(members) + len(spares):
            expected = "a provided tier has no drives"
            problem = f"got {count} {'drive' if count == 1 else 'drives'} with `tier: {name}`"
            yield Problem(problem, expected, "Remove `tier` from them", ("drives",))
        return
    if tier.level == "raid0" and spares:
        expected, help = "RAID0 cannot replace a member", "Leave spare out"
        yield Problem(f"got the spare {spares[0].serial}", expected, help, ("drives",), "md(4)")
    least = MEMBERS[tier.level]
    if len(members) < least:
        problem = f"got {len(members)} {'drive' if len(members) == 1 else 'drives'} with `tier: {name}`"
        help = f"Add it to {least - len(members)} more, or choose another level"
        yield Problem(problem, f"{tier.level} needs {least} or more", help, ("drives",), "md(4)")
    if len(members) + len(spares) > SLOTS_MAX:
        problem = f"got {len(members) + len(spares)} drives with `tier: {name}`"
        expected = f"the superblock of an array has room for {SLOTS_MAX}, spares included"
        yield Problem(problem, expected, "Make several tiers of them", ("drives",), "md_p.h")
    common, _ = Counter(drive.size or 0 for drive in members).most_common(1)[0] if members else (0, 0)
    for index, drive in enumerate(host.drives):
        if drive.tier == name and drive.size and abs(drive.size - common) > common * EQUAL_WITHIN:
            problem, expected = f"got {format_size(drive.size)}", f"other drives of {name} have {format_size(common)}"
            help = "Group drives of one size: md uses only the size of the smallest member on each"
            yield Problem(problem, expected, help, ("drives", index, "size"))


def _mount_problems(tiers: dict[str, Tier]) -> Iterator[Problem]:
    for index, (name, tier) in enumerate(tiers.items()):
        for other_name, other in list(tiers.items())[:index]:
            if tier.mount == other.mount:
                note = f"{other_name} is mounted there"
            elif tier.mount.startswith(f"{other.mount}/"):
                note = f"it is inside {other.mount} of {other_name}, and would vanish with it"
            elif other.mount.startswith(f"{tier.mount}/"):
                note = f"{other.mount} of {other_name} is inside it, and would vanish with it"
            else:
                continue
            path, also = ("tiers", name, "mount"), ("tiers", other_name, "mount")
            expected, help = "no mount point contains another one", "Mount them beside each other"
            yield Problem(f"got {tier.mount!r}", expected, help, path, note=note, also=also)
