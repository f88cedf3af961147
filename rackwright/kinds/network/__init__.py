"""The kind of a host's network: links, bonds, VLANs, addresses, routes and name servers, set up by netplan."""

from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

from rackwright.core.contract import Claim, Difference, Observation, OneOf, Plan, Scope, Want, Within
from rackwright.core.repository import Repository
from rackwright.facts.facts import Facts
from rackwright.kinds.network.observe import CHOSEN, PORT_OF, PREFERRED, format_route, observe_property
from rackwright.kinds.network.spec import OWNER, NetworkSpec, files
from rackwright.kinds.shared import observation
from rackwright.kinds.shared.identity import identity_claim
from rackwright.schema.network import EVERYWHERE, NetworkLink

NETWORKD = "systemd-networkd.service"
_AT_BOOT = OneOf(("enabled", "enabled-runtime"))
PORT_REMEDY = "check that the port exists, or correct its MAC or PCI address in the fleet"
RUN_UP_REMEDY = "run up, which sets it"
LINK_REMEDIES = {
    "up": "check the cable and the switch's port",
    PORT_OF: "look with `ip link show master` who has made that device, then run `ip link set nomaster` for the link",
    "files_of_others": "move the link's settings from that file into the fleet, then take those lines out of the file",
}


ROUTE_REMEDY = (
    "the kernel prefers that route: look with `ip route show` and `networkctl status` who has set it, and remove it, or"
    " declare it"
)


CHOSEN_REMEDY = (
    "a rule sends these packets elsewhere: look with `ip rule show` and `ip route get` who has set it, and clear it"
)


class NetworkKind:
    """The kind of a host's declared ports, with their bonds, VLANs and routes; it never touches undeclared ones."""

    token: ClassVar[str] = "rackwright:network:Network"
    spec = NetworkSpec

    def id(self, spec: NetworkSpec) -> str:
        return spec.id

    def claims(self, spec: NetworkSpec, repository: Repository) -> tuple[Claim, ...]:
        return (
            identity_claim(spec.host, spec.identity),
            Claim("package:netplan.io", {"installed": True}, owned=False, remedy="install netplan.io"),
            Claim(f"unit:{NETWORKD}", {"state": _AT_BOOT, "active": "active"}, owned=False),
            *_files(spec, repository),
            *_links(spec),
            *_routes(spec),
            *_other_claims(spec),
            Claim(f"owner:{OWNER}", {"id": spec.id, "fleet": spec.fleet, "phase": "ready"}),
        )

    def observe(self, claims: Sequence[Claim], facts: Facts) -> Observation:
        return observation.observe(observe_property, claims, facts)

    def report(self, spec: NetworkSpec, facts: Facts) -> dict[str, Any]:
        return {} if spec.fabric is None else {"fabric": spec.fabric}

    def plan(self, spec: NetworkSpec, differences: Sequence[Difference], facts: Facts, repository: Repository) -> Plan:
        from rackwright.kinds.network import plan as planning

        return planning.plan(spec, files(spec, repository), differences, facts)

    def removal(self, spec: NetworkSpec, facts: Facts, repository: Repository, consent: bool) -> Plan:
        from rackwright.kinds.network import plan as planning

        return planning.removal(spec, facts)

    def consents(self, spec: NetworkSpec) -> bool:
        """Return True: a removal loses no data."""
        return True

    def rollout_group(self, spec: NetworkSpec) -> str:
        return OWNER


def _files(spec: NetworkSpec, repository: Repository) -> Iterator[Claim]:
    for path, file in files(spec, repository).items():
        want = {"content": repository.digest(file.text), "mode": f"{file.mode:04o}", "owner": "root:root"}
        yield Claim(f"file:{path}", want)


def _links(spec: NetworkSpec) -> Iterator[Claim]:
    links = spec.links
    for port in spec.ports:
        identity = {"mac": port.mac} if port.mac else {"pci": port.pci or ""}
        scope: Scope = "host" if port.mac else "hardware"
        own: dict[str, Want] = {**identity, "files_of_others": ()}
        yield Claim(f"link:{port.name}", own, scope=scope, remedy=PORT_REMEDY, remedies=LINK_REMEDIES)
        bond_name = spec.bond_of.get(port.name)
        member: dict[str, Want] = {PORT_OF: "none"} if bond_name is None else {"bond": bond_name}
        yield Claim(
            f"link:{port.name}",
            {**_link_properties(links[port.name]), **member},
            scope="host" if bond_name is None else "kernel",
            remedy=RUN_UP_REMEDY,
            remedies=LINK_REMEDIES,
            remedy_absent=PORT_REMEDY,
        )
    for name, bond in spec.bonds.items():
        want = {
            "kind": "bond",
            "mode": bond.mode,
            "members": tuple(sorted(bond.members)),
            **bond.options,
            **_device_properties(links[name]),
        }
        yield Claim(
            f"link:{name}",
            want,
            scope="kernel",
            remedy=RUN_UP_REMEDY,
            remedies=LINK_REMEDIES,
            remedy_absent=RUN_UP_REMEDY,
        )
    for name, vlan in spec.vlans.items():
        want = {"kind": "vlan", "id": vlan.id, "parent": vlan.link, **_device_properties(links[name])}
        yield Claim(
            f"link:{name}",
            want,
            scope="kernel",
            remedy=RUN_UP_REMEDY,
            remedies=LINK_REMEDIES,
            remedy_absent=RUN_UP_REMEDY,
        )


def _link_properties(link: NetworkLink) -> dict[str, Want]:
    return {"mtu": link.mtu, "up": True, "addresses": tuple(sorted(link.addresses))}


def _device_properties(link: NetworkLink) -> dict[str, Want]:
    return {**_link_properties(link), PORT_OF: "none", "files_of_others": ()}


def _routes(spec: NetworkSpec) -> Iterator[Claim]:
    devices = {*spec.devices}
    declared, link_of = spec.declared.routes, spec.route_links
    for route in declared:
        metric: dict[str, Want] = {} if route.metric is None else {"metric": route.metric}
        scope: Scope = "kernel" if link_of[route.name] in devices else "host"
        same = (each for each in declared if each.destination == route.destination)
        others = tuple(sorted({format_route(each.via, link_of[each.name]) for each in same}))
        want: dict[str, Want] = {"via": route.via, "link": link_of[route.name], **metric, PREFERRED: Within(others)}
        if not (route.destination in EVERYWHERE.values() and metric):  # undeclared links may have better ones
            want[CHOSEN] = Within(others)
        remedies = {PREFERRED: ROUTE_REMEDY, CHOSEN: CHOSEN_REMEDY}
        yield Claim(f"route:{route.name}", want, scope=scope, remedies=remedies)


def _other_claims(spec: NetworkSpec) -> Iterator[Claim]:
    devices = Within(tuple(sorted(spec.devices)))
    yield Claim(f"devices:{spec.host}", {"left_over": devices}, scope="kernel")
    if (dns := spec.declared.dns) is not None:
        servers = {"servers": " ".join(dns.addresses), "search": " ".join(dns.search)}
        yield Claim(f"resolvers:{spec.host}", servers, owned=False)
    if spec.declared.takeover == "ifupdown":
        yield Claim(f"ifupdown:{spec.host}", {"interfaces": (), "at_boot": False})
