"""The declared network of a host, and the names and file texts that follow from it."""

from collections.abc import Mapping
from dataclasses import dataclass

from rackwright.core.contract import Resource
from rackwright.core.declared import Declared
from rackwright.core.repository import Repository
from rackwright.kinds.shared import ownership
from rackwright.schema.network import Bond, Network, NetworkLink, Vlan, environment, fabric, links, route_link
from rackwright.schema.port import Nic

OWNER = "network"
"""The name of the owner file."""
NETPLAN = "/etc/netplan/60-rackwright.yaml"
ENVIRONMENT = "/etc/rackwright/network.env"
RESOLVERS = "/etc/resolv.conf"


class NetworkSpec(Resource):
    """The network of a host."""

    fleet: str
    """The name of the fleet, which owns the resource."""
    identity: dict[str, str]
    """The identity of the machine: serial, uuid, bmc_mac or device_tree_serial, as one entry."""
    declared: Declared[Network]
    """The network as it is declared."""
    ports: tuple[Declared[Nic], ...]
    """The ports of the host."""
    devices: tuple[str, ...] = ()
    """Names of the bonds and VLANs, in the order of the fleet: a mapping loses its order on Pulumi's wire."""

    @property
    def id(self) -> str:
        return f"{self.host}/{OWNER}"

    @property
    def owner_file(self) -> str:
        return ownership.owner_file(OWNER)

    @property
    def links(self) -> dict[str, NetworkLink]:
        """All links by name, each after the links below it."""
        found = links(self.declared, self.ports)
        return {name: found[name] for name in (*(port.name for port in self.ports), *self.devices)}

    @property
    def bonds(self) -> dict[str, Bond]:
        """The bonds by name, in the order of the fleet."""
        return {name: self.declared.bonds[name] for name in self.devices if name in self.declared.bonds}

    @property
    def bond_of(self) -> dict[str, str]:
        """The bond of each port that is a member of one."""
        return {member: name for name, bond in self.declared.bonds.items() for member in bond.members}

    @property
    def vlans(self) -> dict[str, Vlan]:
        """The VLANs by name, in the order of the fleet."""
        return {name: self.declared.vlans[name] for name in self.devices if name in self.declared.vlans}

    @property
    def route_links(self) -> dict[str, str]:
        """The link of each route, by the name of the route."""
        return {route.name: route_link(route, self.links) for route in self.declared.routes}

    @property
    def fabric(self) -> str | None:
        return fabric(self.declared, self.ports)


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
        texts[link_file(port)] = FileText(text)
    if spec.fabric is not None:
        texts[ENVIRONMENT] = FileText(render(ENVIRONMENT, environment=environment(spec.fabric)))
    if (dns := spec.declared.dns) is not None:
        texts[RESOLVERS] = FileText(render(RESOLVERS, dns=dns))
    return texts


def link_file(port: Nic) -> str:
    """Return the file from which udev takes the port's name; it sorts before those of netplan and of the system."""
    return f"/etc/systemd/network/05-rackwright-{port.name}.link"


def owner_text(spec: NetworkSpec, phase: str, files: set[str], devices: set[str]) -> str:
    """Return the content of the owner file: the owner, the files written, and the devices created."""
    return ownership.owner_text(spec.id, spec.fleet, phase, wrote=sorted(files), made=sorted(devices))
