"""The declared network of a host, and the names and file texts that follow from it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from rackwright.core.contract import Resource, SpecPart
from rackwright.core.declared import Declared
from rackwright.core.repository import Repository
from rackwright.kinds.shared import ownership
from rackwright.schema.network import BondMode, Dns, environment

OWNER = "network"
"""The name of the owner file."""
NETPLAN = "/etc/netplan/60-rackwright.yaml"
ENVIRONMENT = "/etc/rackwright/network.env"
RESOLVERS = "/etc/resolv.conf"


class LinkPart(SpecPart):
    """The common base of ports, bonds and VLANs."""

    name: str
    mtu: int
    addresses: tuple[str, ...] = ()


class PortPart(LinkPart):
    """A declared port, identified by one of *mac* and *pci*."""

    mac: str | None = None
    pci: str | None = None
    bond: str | None = None
    """The bond with this port as a member."""

    @property
    def key(self) -> str:
        return self.mac or self.pci or ""

    @property
    def link_file(self) -> str:
        """The file from which udev takes the port's name; sorts before those of netplan and of the system."""
        return f"/etc/systemd/network/05-rackwright-{self.name}.link"


class BondPart(LinkPart):
    """A declared bond."""

    mode: BondMode
    members: tuple[str, ...]


class VlanPart(LinkPart):
    """A declared VLAN."""

    link: str
    tag: int


class RoutePart(SpecPart):
    """A declared route, over the link *on*."""

    to: str
    """The destination network; 0.0.0.0/0 or ::/0 for a default route."""
    via: str
    on: str
    metric: int | None = None

    @property
    def name(self) -> str:
        return self.to if self.metric is None else f"{self.to} metric {self.metric}"


class NetworkSpec(Resource):
    """The network of a host."""

    fleet: str
    identity: dict[str, str]
    ports: tuple[PortPart, ...]
    bonds: tuple[BondPart, ...] = ()
    vlans: tuple[VlanPart, ...] = ()
    routes: tuple[RoutePart, ...] = ()
    dns: Declared[Dns] | None = None
    fabric: str | None = None
    takeover: Literal["ifupdown"] | None = None
    confirm_seconds: int = 300

    @property
    def id(self) -> str:
        return f"{self.host}/{OWNER}"

    @property
    def owner_file(self) -> str:
        return ownership.owner_file(OWNER)

    @property
    def links(self) -> tuple[LinkPart, ...]:
        """All links, each after the links below it."""
        return (*self.ports, *self.bonds, *self.vlans)

    @property
    def devices(self) -> tuple[str, ...]:
        """Names of the bonds and VLANs."""
        return tuple(link.name for link in (*self.bonds, *self.vlans))


@dataclass(frozen=True, slots=True)
class FileText:
    """A file that the network writes."""

    text: str
    mode: int = 0o644


def files(spec: NetworkSpec, repository: Repository) -> Mapping[str, FileText]:
    """Return every file that the network writes, by path."""

    def render(template: str, **more: object) -> str:
        return repository.render(f"network{template}.j2", network=spec, **more)

    texts = {NETPLAN: FileText(render(NETPLAN), 0o600)}
    for port in spec.ports:
        text = render("/etc/systemd/network/05-rackwright-port.link", port=port)
        texts[port.link_file] = FileText(text)
    if spec.fabric is not None:
        texts[ENVIRONMENT] = FileText(render(ENVIRONMENT, environment=environment(spec.fabric)))
    if spec.dns is not None:
        texts[RESOLVERS] = FileText(render(RESOLVERS, dns=spec.dns))
    return texts


def owner_text(spec: NetworkSpec, phase: str, files: set[str], devices: set[str]) -> str:
    """Return the content of the owner file: the owner, the files written, and the devices created."""
    return ownership.owner_text(spec.id, spec.fleet, phase, wrote=sorted(files), made=sorted(devices))
