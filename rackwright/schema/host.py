"""What a host is: who it is, what is in it, and what it should carry."""

import re
from collections import Counter
from collections.abc import Iterator
from typing import Annotated, Any, Literal, Self
from uuid import UUID

from pydantic import AfterValidator, Field, WithJsonSchema, model_validator

from rackwright.schema import accelerator, reference
from rackwright.schema.alerts import Alerts
from rackwright.schema.base import Many, Schema
from rackwright.schema.catalogue import PROFILES
from rackwright.schema.health import Health
from rackwright.schema.maintenance import Maintenance
from rackwright.schema.needs import Needs
from rackwright.schema.network import Network, fabric
from rackwright.schema.network import problems as network_problems
from rackwright.schema.port import Mac, Nic
from rackwright.schema.problem import Keys, Problem, hint, raise_any
from rackwright.schema.ssh import Ssh, parse_address
from rackwright.schema.tier import MEMBERS, Tier
from rackwright.schema.units import Size, format_size

Bus = Literal["nvme", "sas", "sata", "virtio"]
Os = Literal["debian-12", "debian-13", "ubuntu-22.04", "ubuntu-24.04"]

NAME = r"[a-z0-9]([a-z0-9-]*[a-z0-9])?"
NAME_MAX = 63
NUMBER = r"[0-9]+|0x[0-9a-f]*"
"""Names that resolvers read as an IPv4 address: `1` is 0.0.0.1. Source: inet_aton(3)."""
ANSIBLES = ("all", "localhost", "ungrouped")
"""Names that Ansible itself has for groups and this computer."""
KERNEL_NAME = r"/dev/.*|(s|h|v|xv)d[a-z]+[0-9]*|nvme[0-9]+(n[0-9]+)?(p[0-9]+)?|(dm-|md|mmcblk)[0-9]+(p[0-9]+)?"
PLACEHOLDERS = {"", "none", "default string", "not specified", "to be filled by o.e.m.", "system serial number", "0"}
EQUAL_WITHIN = 0.01


def _name(name: str) -> str:
    if not re.fullmatch(NAME, name) or len(name) > NAME_MAX:
        near = re.sub(r"[^a-z0-9]+", "-", name.lower())[:NAME_MAX].strip("-")
        want = f"a name has small letters, digits and inner hyphens, {NAME_MAX} at most"
        raise Problem(f"got the name {name!r}", want, f"Write {near}" if near else "Give it a name")
    return name


def _host_name(name: str) -> str:
    if re.fullmatch(NUMBER, name):
        want = "a host's name has a letter: a number alone is read as an IP address"
        raise Problem(f"got the name {name!r}", want, f"Write host-{name}", source="inet_aton(3)")
    if name in ANSIBLES:
        want = f"Ansible itself calls something {', '.join(ANSIBLES)}"
        raise Problem(f"got the name {name!r}", want, "Give it another name")
    return name


def _identified(text: str) -> str:
    """Return the identity that firmware shows, which no template engine and no terminal would read otherwise."""
    if re.search(r"[^ -~]|[{}]", text):
        want = "an identity is printable ASCII text without braces"
        raise Problem(f"got {text!r}", want, "Copy it from `dmidecode -t system` on the host")
    return text


def _serial(serial: str) -> str:
    if re.fullmatch(KERNEL_NAME, serial):
        raise Problem(
            f"got {serial!r}",
            "a drive is named by its serial number: kernel names change between boots",
            "Take the serial from `lsblk -dno NAME,SERIAL` on the host",
        )
    if not serial or re.search(r"[^!-~]|[{}]", serial.replace(" ", "")) or serial != serial.strip():
        want = "a serial is printable text without braces, and without blanks around it"
        raise Problem(f"got {serial!r}", want, "Copy it from `lsblk -dno NAME,SERIAL` on the host")
    return serial


def _uuid(uuid: str) -> str:
    try:
        return str(UUID(uuid))
    except ValueError:
        want, fix = "a UUID is 32 hex digits in five groups", "Copy it from `dmidecode -s system-uuid`"
        raise Problem(f"got {uuid!r}", want, fix) from None


def _profile(profile: str) -> str:
    if profile not in PROFILES:
        fix = hint(profile, PROFILES, "Take one of these")
        raise Problem(f"got {profile!r}", f"profiles of the catalogue: {', '.join(PROFILES)}", fix)
    return profile


Name = Annotated[str, AfterValidator(_name), Field(json_schema_extra={"pattern": f"^{NAME}$", "maxLength": NAME_MAX})]
HostName = Annotated[Name, AfterValidator(_host_name), Field(json_schema_extra={"not": {"pattern": f"^({NUMBER})$"}})]
Identified = Annotated[str, AfterValidator(_identified)]
Serial = Annotated[str, AfterValidator(_serial), Field(json_schema_extra={"not": {"pattern": f"^({KERNEL_NAME})$"}})]
Address = Annotated[str, AfterValidator(parse_address)]
Profile = Annotated[str, AfterValidator(_profile), WithJsonSchema({"type": "string", "enum": list(PROFILES)})]


class Identity(Schema):
    """Which machine a host is, by the first of these that it has. Another machine in its place is refused."""

    serial: Identified | None = None
    """Chassis serial."""
    uuid: Annotated[str, AfterValidator(_uuid)] | None = None
    """Product UUID."""
    bmc_mac: Mac | None = None
    """MAC address of the management controller."""
    device_tree_serial: Identified | None = None
    """Serial in the device tree, where there is no SMBIOS."""

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        given = self.model_dump(exclude_none=True)
        raise_any(
            Problem(f"got {value!r}", "a placeholder is no identity", f"Take another of {_FIELDS}", (field,))
            for field, value in given.items()
            if value.strip().lower() in PLACEHOLDERS or not set(value) - set("0-:. ")
        )
        if not given:
            raise Problem("got nothing", f"a host has one of {_FIELDS}", "Add the one that `dmidecode -t system` shows")
        return self

    @property
    def strongest(self) -> tuple[str, str]:
        """The first identity given, as (field, value)."""
        return next((name, value) for name in type(self).model_fields if (value := getattr(self, name)) is not None)


_FIELDS = ", ".join(Identity.model_fields)


class Drive(Schema):
    """One physical disk of a host."""

    serial: Serial
    """As `lsblk -dno NAME,SERIAL` shows it: never a kernel name."""
    bus: Bus | None = None
    """What it is attached to; a member of a tier says it."""
    size: Size | None = None
    """As on the label: it holds within 1 %. A member of a tier says it."""
    boot: bool = False
    """It carries the operating system, and is never a member of a tier."""
    tier: str | None = None
    """Name of the tier it is a member of."""
    spare: bool = False
    """It waits in its tier until a member fails: one line for each drive that shall wait."""
    watched: bool = True
    """False for one that nobody can ask about its health, as behind a RAID controller."""

    @model_validator(mode="after")
    def _serves_one_purpose(self) -> Self:
        if self.boot and self.tier:
            want, fix = "a boot drive is never a member of a tier", "Leave one of the two out"
            raise Problem(f"got {self.tier!r} beside boot: true", want, fix, ("tier",))
        if self.spare and not self.tier:
            raise Problem("got spare: true", "a spare waits in a tier", "Add tier, or leave spare out", ("spare",))
        missing = [name for name in ("bus", "size") if self.tier and getattr(self, name) is None]
        if missing:
            got, fix = f"got no {' and no '.join(missing)}", f"Add {' and '.join(missing)}"
            raise Problem(got, "a member of a tier says its bus and its size", fix)
        return self


class Host(Schema):
    """A machine we manage, with its group's settings merged in."""

    address: Address
    """Where its SSH answers: an IP address or a host name."""
    identity: Identity
    """Which machine it is, so that another in its place is noticed."""
    os: Os
    """What runs on it; checked, and it decides what packages and services are called."""
    group: str | None = None
    """The group whose settings it takes over, under its own."""
    profile: Profile = "virtual"
    """What this class of host must physically have: a name of the catalogue."""
    drives: Many[Drive] = ()
    """Every disk that is in it, boot drives too."""
    nics: Many[Nic] = ()
    """The network ports that matter."""
    network: Network | None = None
    """What stands on the ports: bonds, VLANs, routes, name servers. Where it is declared, the ports are set up, too."""
    tiers: dict[Name, Tier] = Field(default_factory=dict)
    """Its storage tiers by name."""
    roles: dict[str, dict[str, Any]] = Field(default_factory=dict)
    """The software on it: each role by name, with its variables as that role's argument specification has them."""
    needs: Needs = Needs()
    """What is to run on it, checked against its GPUs and its driver before anything is installed."""
    ssh: Ssh = Ssh()
    """How to log in."""
    alerts: Alerts = Alerts()
    """Which state of its GPUs somebody should look at."""
    health: Health = Health()
    """How much its drives may have suffered before somebody is told."""
    reboot: Literal["allowed"] | None = None
    """Consent to its restart, once it is drained, where a role needs that; without it a person restarts it."""
    maintenance: Maintenance | None = None
    """It is left alone for so long, and previews and audits say so."""
    retired: bool = False
    """It is let go, as it is: nothing is declared of it any more, and nothing of it is removed."""
    wipe: dict[str, str] = Field(default_factory=dict)
    """Consent to lose what a drive carries: its serial to what the preview said is on it. Dies with it."""

    @model_validator(mode="after")
    def _drives_and_tiers_agree(self) -> Self:
        raise_any(problems(self))
        return self

    @property
    def fabric(self) -> str | None:
        """The interface that NCCL, Gloo and MPI take; None where no network with addresses is declared."""
        return None if self.network is None else fabric(self.network, self.nics)

    @property
    def accelerators(self) -> accelerator.Accelerators:
        """What it chooses about its accelerators."""
        # what is sound of a host has no system where that is declared wrongly
        system = self.os if "os" in self.model_fields_set else None
        return accelerator.chosen(system, self.profile, self.roles, self.needs)

    def variables(self, role: str) -> dict[str, Any]:
        """Return the variables of its *role*: those declared, and beside them what its GPUs say of the others."""
        return accelerator.variables(self.accelerators, role, self.declared(role))

    def declared(self, role: str) -> dict[str, Any]:
        """Return the variables declared of its *role*; where one refers to a tier, where that is mounted."""
        found: dict[str, Any] = reference.fill(self.roles[role], "tier", lambda name: self.tiers[name].mount)
        return found

    def tiers_of(self, role: str) -> tuple[tuple[Keys, Any], ...]:
        """Return the tiers that the variables of its *role* refer to: where, and by which name."""
        return tuple(reference.references(self.roles[role], "tier"))

    def members(self, tier: str) -> tuple[Drive, ...]:
        """The drives that *tier* is spread over, in the order declared."""
        return tuple(drive for drive in self.drives if drive.tier == tier and not drive.spare)

    def spares(self, tier: str) -> tuple[Drive, ...]:
        """The drives that wait in *tier*, in the order declared."""
        return tuple(drive for drive in self.drives if drive.tier == tier and drive.spare)


def problems(host: Host) -> Iterator[Problem]:
    """Yield what only shows when the parts of one host stand beside each other."""
    members = {drive.serial for drive in host.drives if drive.tier}
    for index, drive in enumerate(host.drives):
        if drive.tier and drive.tier not in host.tiers:
            fix = hint(drive.tier, host.tiers, "Declare it under tiers, or take tier out")
            known = ", ".join(host.tiers) or "none"
            yield Problem(f"got {drive.tier!r}", f"tiers of this host: {known}", fix, ("drives", index, "tier"))
    for serial in host.wipe:
        if serial not in members:
            want, fix = "consent is for a drive of this host's tiers", "Correct the serial, or remove the line"
            yield Problem(f"got {serial!r}", want, fix, ("wipe", serial))
    for name, tier in host.tiers.items():
        yield from _member_problems(host, name, tier)
    yield from _mount_problems(host.tiers)
    yield from network_problems(host.network, host.nics)
    for name, what in (("network", "the network of this host has"), ("peers", "what leads from it to others has")):
        if host.network is not None and name in host.tiers:
            want, fix = f"{what} that name", "Give the tier another name"
            yield Problem(f"got the tier {name}", want, fix, ("tiers", name), also=("network",))
    yield from accelerator.problems(host.accelerators)


def _member_problems(host: Host, name: str, tier: Tier) -> Iterator[Problem]:
    members, spares = host.members(name), host.spares(name)
    if tier.level is None:
        if count := len(members) + len(spares):
            want = "somebody else provides that tier"
            got = f"got {count} {'drive' if count == 1 else 'drives'} with `tier: {name}`"
            yield Problem(got, want, "Take it out there", ("drives",))
        return
    if tier.level == "raid0" and spares:
        want, fix = "in RAID0 nothing can take a member's place", "Leave spare out"
        yield Problem(f"got the spare {spares[0].serial}", want, fix, ("drives",), "md(4)")
    least = MEMBERS[tier.level]
    if len(members) < least:
        got = f"got {len(members)} {'drive' if len(members) == 1 else 'drives'} with `tier: {name}`"
        fix = f"Write it at {least - len(members)} more, or take another level"
        yield Problem(got, f"{tier.level} needs {least} or more", fix, ("drives",), "md(4)")
    common, _ = Counter(drive.size or 0 for drive in members).most_common(1)[0] if members else (0, 0)
    for index, drive in enumerate(host.drives):
        if drive.tier == name and drive.size and abs(drive.size - common) > common * EQUAL_WITHIN:
            got, want = f"got {format_size(drive.size)}", f"other drives of {name} have {format_size(common)}"
            fix = "Put drives of one size together: md takes no more of each than the smallest has"
            yield Problem(got, want, fix, ("drives", index, "size"))


def _mount_problems(tiers: dict[str, Tier]) -> Iterator[Problem]:
    for index, (name, tier) in enumerate(tiers.items()):
        for other_name, other in list(tiers.items())[:index]:
            if tier.mount == other.mount:
                want = f"{other_name} is mounted there"
            elif tier.mount.startswith(f"{other.mount}/"):
                want = f"it lies inside {other.mount} of {other_name}, and would vanish with it"
            elif other.mount.startswith(f"{tier.mount}/"):
                want = f"{other.mount} of {other_name} lies inside it, and would vanish with it"
            else:
                continue
            path, also = ("tiers", name, "mount"), ("tiers", other_name, "mount")
            yield Problem(f"got {tier.mount!r}", want, "Mount them beside each other", path, also=also)
