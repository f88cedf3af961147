"""What a host's network is declared to be, with all that follows from it alone: names, and the texts of its files."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from rackwright.core.contract import Part, Resource
from rackwright.core.repository import Repository
from rackwright.kinds.shared import ownership
from rackwright.schema.network import BondMode, environment

OWNER = "network"
"""The name of its owner file."""
NETPLAN = "/etc/netplan/60-rackwright.yaml"
ENVIRONMENT = "/etc/rackwright/network.env"
RESOLVERS = "/etc/resolv.conf"


class LinkPart(Part):
    """What ports, bonds and VLANs have."""

    name: str
    mtu: int
    addresses: tuple[str, ...] = ()


class PortPart(LinkPart):
    """A declared port; found by one of *mac* and *pci*."""

    mac: str | None = None
    pci: str | None = None
    bond: str | None = None
    """That it is a member of."""

    @property
    def key(self) -> str:
        return self.mac or self.pci or ""

    @property
    def link_file(self) -> str:
        """By which udev gives it its name; before those of netplan and of the system."""
        return f"/etc/systemd/network/05-rackwright-{self.name}.link"


class BondPart(LinkPart):
    """A declared bond."""

    mode: BondMode
    members: tuple[str, ...]


class VlanPart(LinkPart):
    """A declared VLAN."""

    link: str
    tag: int


class RoutePart(Part):
    """A declared route, over the link *on*."""

    to: str
    """As a network, the default one too."""
    via: str
    on: str
    metric: int | None = None

    @property
    def name(self) -> str:
        return self.to if self.metric is None else f"{self.to} metric {self.metric}"


class DnsPart(Part):
    """Name servers and search domains, in their order."""

    addresses: tuple[str, ...]
    search: tuple[str, ...] = ()


class NetworkSpec(Resource):
    """The network of a host."""

    fleet: str
    identity: dict[str, str]
    ports: tuple[PortPart, ...]
    bonds: tuple[BondPart, ...] = ()
    vlans: tuple[VlanPart, ...] = ()
    routes: tuple[RoutePart, ...] = ()
    dns: DnsPart | None = None
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
        """All of them, each after what it stands on."""
        return (*self.ports, *self.bonds, *self.vlans)

    @property
    def devices(self) -> tuple[str, ...]:
        """Names of those that it makes: bonds and VLANs."""
        return tuple(link.name for link in (*self.bonds, *self.vlans))


@dataclass(frozen=True, slots=True)
class FileText:
    """A file that it writes."""

    text: str
    mode: int = 0o644


def files(spec: NetworkSpec, repository: Repository) -> Mapping[str, FileText]:
    """Return by path every file that the network writes."""

    def rendered(template: str, **more: object) -> str:
        return repository.render(f"network{template}.j2", network=spec, **more)

    found = {NETPLAN: FileText(rendered(NETPLAN), 0o600)}
    for port in spec.ports:
        text = rendered("/etc/systemd/network/05-rackwright-port.link", port=port)
        found[port.link_file] = FileText(text)
    if spec.fabric is not None:
        found[ENVIRONMENT] = FileText(rendered(ENVIRONMENT, environment=environment(spec.fabric)))
    if spec.dns is not None:
        found[RESOLVERS] = FileText(rendered(RESOLVERS, dns=spec.dns))
    return found


def owner_text(spec: NetworkSpec, phase: str, wrote: set[str], made: set[str]) -> str:
    """Return the owner file: whose network this is, which files are its own, and which devices it made."""
    return ownership.owner_text(spec.id, spec.fleet, phase, wrote=sorted(wrote), made=sorted(made))
