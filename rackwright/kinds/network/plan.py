"""The plan of a network: its steps, refusals and removal."""

from collections.abc import Iterator, Mapping, Sequence

from rackwright.core.contract import Absent, Difference, Plan, Put, Remove, Step, UnknownValue
from rackwright.errors import Diagnostic
from rackwright.facts.facts import Facts
from rackwright.facts.view import UnknownFact
from rackwright.kinds.network import commands, unmanaged
from rackwright.kinds.network.observe import CHOSEN, PORT_OF, PREFERRED, leftover_devices
from rackwright.kinds.network.spec import OWNER, FileText, NetworkSpec, owner_text
from rackwright.kinds.shared import ownership
from rackwright.kinds.shared.guard import guard_change
from rackwright.kinds.shared.identity import refuse_wrong_machine
from rackwright.kinds.shared.unknown_facts import unknown_fact
from rackwright.schema.network import BOND_OPTIONS

REMOVAL_NOTE = "every link, address and file stays on the host, without an owner: the host stays reachable"
SIGNAL_PROPERTIES = ("up", "addresses", "members")
"""Properties that a link without a signal cannot have."""


def plan(spec: NetworkSpec, texts: Mapping[str, FileText], differences: Sequence[Difference], facts: Facts) -> Plan:
    """Return the steps that write *texts* and set up the links. Unknown values need manual work."""
    try:
        return _plan(spec, texts, differences, facts)
    except UnknownFact as reason:
        return Plan(refusals=(unknown_fact(spec.id, reason),))


def _plan(spec: NetworkSpec, texts: Mapping[str, FileText], differences: Sequence[Difference], facts: Facts) -> Plan:
    if refusals := (
        *refuse_wrong_machine(spec.host, differences),
        *ownership.refuse_foreign(spec.id, spec.fleet, OWNER, "network", facts),
        *_refuse_without_netplan(spec, differences),
        *_refuse_two_owners(spec, differences, facts),
    ):
        return Plan(refusals=refusals)
    by_hand = tuple(item for item in differences if item.is_unknown or _needs_manual_work(spec, item, facts))
    fixable = [item for item in differences if item not in by_hand]
    if not fixable:
        return Plan(by_hand=by_hand)
    if refusals := tuple(_refuse_dependents(spec, _devices_to_delete(spec, fixable, facts), facts)):
        return Plan(refusals=refusals)
    changed_paths = {item.thing.partition(":")[2] for item in fixable if item.thing.startswith("file:")}
    changed_texts = {path: file.text for path, file in texts.items() if path in changed_paths}
    return Plan(steps=tuple(_steps(spec, texts, fixable, facts)), by_hand=by_hand, texts=changed_texts)


def _refuse_without_netplan(spec: NetworkSpec, differences: Sequence[Difference]) -> Iterator[Diagnostic]:
    for item in differences:
        if item.thing == "package:netplan.io" and not item.is_unknown:
            expected = "the package netplan.io, which sets up the network"
            help = "Run `apt-get install netplan.io` on the host, then run this again"
            yield Diagnostic(spec.id, "the host has no netplan", expected, help)


def _refuse_two_owners(spec: NetworkSpec, differences: Sequence[Difference], facts: Facts) -> Iterator[Diagnostic]:
    """Yield refusals of links with unmanaged files, and of a takeover with undeclared interfaces."""
    for item in differences:
        if item.name == "files_of_others":
            where = f"{spec.id}: {item.thing.partition(':')[2]}"
            match item.actual:
                case UnknownValue(reason):
                    yield unknown_fact(where, reason)
                case tuple(paths):
                    yield from _refuse_second_owner(spec, where, paths)
    if spec.declared.takeover is None:
        return
    try:
        stanzas = unmanaged.ifupdown_interfaces(facts)
        ours = {port.name for port in spec.ports} | {
            link.name for port in spec.ports if (link := facts.port(port.mac, port.pci)) is not None
        }
    except UnknownFact as reason:
        yield unknown_fact(spec.id, reason)
        return
    for path, names in stanzas.items():
        if others := ", ".join(sorted(names - ours)):
            problem = f"{path} sets up {others}, which the fleet does not declare"
            expected = "a declaration of all interfaces of ifupdown"
            yield Diagnostic(spec.id, problem, expected, "Declare it under nics as well, or remove it from that file")


def _refuse_second_owner(spec: NetworkSpec, where: str, paths: Sequence[str]) -> Iterator[Diagnostic]:
    for path in paths:
        if path.startswith(unmanaged.IFUPDOWN) and spec.declared.takeover == "ifupdown":
            continue
        option = ", or write `takeover: ifupdown` under network" if path.startswith(unmanaged.IFUPDOWN) else ""
        yield Diagnostic(
            where, f"{path} sets up the link as well", "one owner for each link", f"Remove it from that file{option}"
        )


def _refuse_dependents(spec: NetworkSpec, to_delete: Sequence[str], facts: Facts) -> Iterator[Diagnostic]:
    """Yield a refusal for each undeclared VLAN on a device to delete: the VLAN would be deleted with it."""
    for link in facts.links:
        if link.kind == "vlan" and link.parent in to_delete and link.name not in (*to_delete, *spec.devices):
            yield Diagnostic(
                f"{spec.id}: {link.parent}",
                f"the undeclared VLAN {link.name} is on this link",
                help=f"Declare {link.name} under vlans, or find out who created it and who needs it",
                note="the plan deletes the link, or creates it again, and the VLAN would go with it",
            )


def _needs_manual_work(spec: NetworkSpec, item: Difference, facts: Facts) -> bool:
    """Return whether *item* needs manual work: its port or signal is missing, or another author set the route."""
    sort, _, key = item.thing.partition(":")
    if item.name in (PREFERRED, CHOSEN) or (item.name == PORT_OF and not isinstance(item.actual, Absent)):
        return True  # another author owns the other route, the rule, or the device
    if sort == "route":
        key = spec.route_links[key]
    elif sort != "link" or item.name == "files_of_others":
        return False
    elif key in {port.name for port in spec.ports} and not _is_here(spec, key, facts):
        return True
    elif item.name == "members":
        return not all(_is_here(spec, member, facts) for member in spec.bonds[key].members)
    elif item.name not in SIGNAL_PROPERTIES:
        return False
    link = facts.link(key)
    try:
        return link is not None and not link.carrier
    except UnknownFact:  # the link is down, which the plan can fix
        return False


def _is_here(spec: NetworkSpec, name: str, facts: Facts) -> bool:
    port = next(port for port in spec.ports if port.name == name)
    # a target without PCI addresses has the port by name
    return facts.port(port.mac, port.pci) is not None or (port.mac is None and facts.link(name) is not None)


def _steps(
    spec: NetworkSpec, texts: Mapping[str, FileText], fixable: Sequence[Difference], facts: Facts
) -> Iterator[Step]:
    owner = facts.owner(OWNER) or {}
    old_files, old_devices = set(owner.get("wrote", ())), set(owner.get("made", ()))
    aside = tuple(sorted(unmanaged.ifupdown_interfaces(facts))) if spec.declared.takeover else ()
    to_delete = _devices_to_delete(spec, fixable, facts)
    text = owner_text(spec, "creating", old_files | texts.keys(), old_devices | {*spec.devices})
    yield Put("note in the owner file: creating", spec.owner_file, text, 0o600)
    if replaced := (*(path for path in texts if path not in old_files), *aside):
        yield ownership.back_up(OWNER, replaced)
    stale = tuple(sorted(old_files - texts.keys()))
    change: list[Step] = [Put(f"write {path}", path, file.text, file.mode) for path, file in texts.items()]
    change += [ownership.restore(OWNER, stale)] if stale else []
    change += [Remove(f"remove {path}", path) for path in aside]
    change.append(
        commands.apply(
            to_delete,
            spec.ports,
            _changed_links(spec, fixable),
            [*spec.links],
            spec.devices,
            spec.declared.takeover is not None,
        )
    )
    also = commands.undo(to_delete, spec.ports, spec.devices)
    yield from guard_change(OWNER, (*texts, *stale, *aside), also, change, spec.declared.confirm_seconds)
    text = owner_text(spec, "ready", {*texts}, {*spec.devices})
    yield Put("note in the owner file: ready", spec.owner_file, text, 0o600)


def _devices_to_delete(spec: NetworkSpec, fixable: Sequence[Difference], facts: Facts) -> tuple[str, ...]:
    """Return the devices to delete, VLANs first: undeclared ones, and those with a property fixed at creation."""
    unwanted = {*leftover_devices(facts)} - {*spec.devices}
    recreated = {
        item.thing.partition(":")[2]
        for item in fixable
        if item.thing.startswith("link:") and item.name in _FIXED_AT_CREATION
    }
    on_recreated = {name for name, vlan in spec.vlans.items() if vlan.link in recreated}
    present = {link.name: link.kind for link in facts.links}
    names = (unwanted | recreated | on_recreated) & present.keys()
    return tuple(sorted(names, key=lambda name: (present[name] != "vlan", name)))


_FIXED_AT_CREATION = ("kind", "mode", "id", "parent", *BOND_OPTIONS)
"""Properties that networkd sets only when it creates a device."""


def _changed_links(spec: NetworkSpec, fixable: Sequence[Difference]) -> tuple[str, ...]:
    """Return the links with a difference outside their files, in the order of declaration."""
    link_of = spec.route_links
    things = (item.thing.partition(":") for item in fixable)
    names = {link_of[key] if sort == "route" else key for sort, _, key in things if sort in ("link", "route")}
    names |= {member for name, bond in spec.bonds.items() if name in names for member in bond.members}
    return tuple(name for name in spec.links if name in names)


def removal(spec: NetworkSpec, facts: Facts) -> Plan:
    """Return the step that removes the owner file; the network itself stays, because logins depend on it."""
    if refusals := ownership.refuse_foreign(spec.id, spec.fleet, OWNER, "network", facts):
        return Plan(refusals=refusals)
    if facts.owner(OWNER) is None:
        return Plan()
    step = Remove(f"remove {spec.owner_file}", spec.owner_file)
    return Plan(steps=(step,), notes=(f"{spec.id}: {REMOVAL_NOTE}",))
