"""Network ports of a host, and the types that ports, bonds and VLANs share: names, MTUs, addresses."""

import re
from typing import Annotated, Self

from pydantic import AfterValidator, Field, WithJsonSchema, model_validator

from rackwright.schema.base import Many, Schema
from rackwright.schema.formats import no_hosts, parse_interface
from rackwright.schema.problem import Problem

MAC = r"([0-9A-Fa-f]{2}:){5}[0-9A-Fa-f]{2}"
PCI = r"([0-9A-Fa-f]{4}:)?[0-9A-Fa-f]{2}:[0-9A-Fa-f]{2}\.[0-7]"
LINK_NAME_MAX = 15
"""Maximum length of an interface's name. Source: IFNAMSIZ of linux/if.h."""
LINK_NAME = rf"[A-Za-z0-9][A-Za-z0-9_.-]{{0,{LINK_NAME_MAX - 1}}}"
"""Names without * ? [ ], patterns of netplan and systemd, and without characters special to shells or paths."""
RESERVED_NAMES = ("lo", "all", "default", "bonding_masters")
"""Names that the kernel uses itself. Source: /proc/sys/net/ipv4/conf and /sys/class/net."""
MTU_MIN, MTU_MAX = 576, 9216


def _mac(mac: str) -> str:
    if not re.fullmatch(MAC, mac):
        digits = re.sub(r"[^0-9a-f]", "", mac.lower())
        near = f"Write {':'.join(re.findall('..', digits))}" if len(digits) == 12 else "Write it like 00:00:5e:00:53:01"
        raise Problem(f"got {mac!r}", "a MAC address is six pairs of hex digits between colons", near)
    return mac.lower()


def _pci(address: str) -> str:
    if not re.fullmatch(PCI, address):
        help = "Write it like 0000:3b:00.0, as `lspci -D` shows it"
        raise Problem(f"got {address!r}", "a PCI address is domain:bus:device.function", help)
    return address.lower() if address.count(":") == 2 else f"0000:{address.lower()}"


def _cidr(address: str) -> str:
    try:
        interface = parse_interface(address)
    except ValueError:
        interface = None
    if interface is not None and interface.ip in no_hosts(interface.network):
        expected = "the address of a port is that of one machine, and this one means the network or all in it"
        raise Problem(f"got {address!r}", expected, "Write another address of the network")
    if interface is not None and getattr(interface.ip, "ipv4_mapped", None) is None:
        return str(interface)
    raise Problem(f"got {address!r}", "the address of a port is IP/prefix length", "Write it like 192.0.2.11/24")


def _link_name(name: str) -> str:
    if not re.fullmatch(LINK_NAME, name) or name in RESERVED_NAMES:
        near = re.sub(r"[^A-Za-z0-9_.-]+", "-", name).strip("-.")[:LINK_NAME_MAX].strip("-.")
        form = f"letters, digits and _ . -, {LINK_NAME_MAX} at most"
        expected = f"the name of an interface has {form}, and is not {', '.join(RESERVED_NAMES)}"
        help = f"Write {near}" if near and near not in RESERVED_NAMES else "Give it another name"
        raise Problem(f"got the name {name!r}", expected, help, source="IFNAMSIZ, linux/if.h")
    return name


Mac = Annotated[str, AfterValidator(_mac), WithJsonSchema({"type": "string", "pattern": f"^{MAC}$"})]
PciAddress = Annotated[str, AfterValidator(_pci), WithJsonSchema({"type": "string", "pattern": f"^{PCI}$"})]
Cidr = Annotated[str, AfterValidator(_cidr)]
LinkName = Annotated[str, AfterValidator(_link_name), Field(json_schema_extra={"pattern": f"^{LINK_NAME}$"})]
Mtu = Annotated[int, Field(ge=MTU_MIN, le=MTU_MAX)]


class Nic(Schema):
    """One network port of a host."""

    name: LinkName
    """Name in the fleet; on a host with a declared network, also the name in the kernel."""
    mac: Mac | None = None
    """MAC address that identifies the port, independent of its name in the kernel."""
    pci: PciAddress | None = None
    """PCI address from `lspci -D`, for a port that its MAC address does not identify."""
    mtu: Mtu = 1500
    """Size of the largest packet in bytes."""
    addresses: Many[Cidr] = ()
    """IP addresses with their prefix lengths."""

    @property
    def key(self) -> str:
        """The address that identifies the port."""
        return self.mac or self.pci or ""

    @model_validator(mode="after")
    def _can_be_found(self) -> Self:
        if self.mac is None and self.pci is None:
            raise Problem("got neither mac nor pci", "mac or pci identifies a port", "Add mac or pci")
        if self.mac is not None and self.pci is not None:
            expected, help = "either mac or pci identifies a port", "Leave one of the two out"
            raise Problem(f"got {self.pci!r} beside mac", expected, help, ("pci",))
        return self
