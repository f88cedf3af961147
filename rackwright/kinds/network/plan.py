"""What makes a network as declared, what forbids it, and what takes it away again."""

from collections.abc import Iterator, Mapping, Sequence

from rackwright.core.contract import Difference, Plan, Put, Refusal, Remove, Step, UnknownValue
from rackwright.facts.facts import Facts
from rackwright.facts.view import UnknownFact
from rackwright.kinds.network import commands, unmanaged
from rackwright.kinds.network.observe import PREFERRED, left_over
from rackwright.kinds.network.spec import OWNER, FileText, NetworkSpec, owner_text
from rackwright.kinds.shared import ownership
from rackwright.kinds.shared.guard import guarded
from rackwright.kinds.shared.identity import wrong_machine

REMAINS = "every link, address and file stays on the host as it is, and is nobody's: who reaches it still does"
LIVING = ("up", "addresses", "members")
"""What a link without a signal cannot have, whatever is done to the host."""


def plan(spec: NetworkSpec, texts: Mapping[str, FileText], differences: Sequence[Difference], facts: Facts) -> Plan:
    """Return the steps from *facts* to *texts* and the links they set up; what cannot be known is left to a person."""
    try:
        return _plan(spec, texts, differences, facts)
    except UnknownFact as reason:
        want = "a plan needs to know what is there"
        return Plan(refusals=(Refusal(spec.id, f"got no answer ({reason})", want, "Mend that, and run again"),))


def _plan(spec: NetworkSpec, texts: Mapping[str, FileText], differences: Sequence[Difference], facts: Facts) -> Plan:
    if refusals := (
        *wrong_machine(spec.host, differences),
        *ownership.foreign(spec.id, spec.fleet, OWNER, "network", facts),
        *_not_installed(spec, differences),
        *_two_owners(spec, differences, facts),
    ):
        return Plan(refusals=refusals)
    by_hand = tuple(item for item in differences if item.is_unknown or _is_dark(spec, item, facts))
    mended = [item for item in differences if item not in by_hand]
    if not mended:
        return Plan(by_hand=by_hand)
    if refusals := tuple(_carries_others(spec, _gone(spec, mended, facts), facts)):
        return Plan(refusals=refusals)
    changed = {item.thing.partition(":")[2] for item in mended if item.thing.startswith("file:")}
    shown = {path: file.text for path, file in texts.items() if path in changed}
    return Plan(steps=tuple(_steps(spec, texts, mended, facts)), by_hand=by_hand, texts=shown)


def _not_installed(spec: NetworkSpec, differences: Sequence[Difference]) -> Iterator[Refusal]:
    for item in differences:
        if item.thing == "package:netplan.io" and not item.is_unknown:
            want, fix = "netplan sets up the network", "Run `apt-get install netplan.io` on the host, then this again"
            yield Refusal(spec.id, "got a host without netplan.io", want, fix)


def _two_owners(spec: NetworkSpec, differences: Sequence[Difference], facts: Facts) -> Iterator[Refusal]:
    """Refuse links that a file of somebody else sets up as well, and a takeover of what is not declared."""
    for item in differences:
        if item.name == "files_of_others":
            where = f"{spec.id}: {item.thing.partition(':')[2]}"
            match item.actual:
                case UnknownValue(reason):
                    want = "a plan needs to know who else sets it up"
                    yield Refusal(where, f"got no answer ({reason})", want, "Mend that, and run again")
                case tuple(paths):
                    yield from _owned_twice(spec, where, paths)
    if spec.takeover is None:
        return
    try:
        stanzas = unmanaged.ifupdown(facts)
        ours = {port.name for port in spec.ports} | {
            found.name for port in spec.ports if (found := facts.port(port.mac, port.pci)) is not None
        }
    except UnknownFact as reason:
        want = "ifupdown is taken over as a whole"
        yield Refusal(spec.id, f"got no answer ({reason})", want, "Mend that, and run again")
        return
    for path, names in stanzas.items():
        if others := ", ".join(sorted(names - ours)):
            got, want = f"got {others} in {path}", "ifupdown is taken over as a whole, and that is not declared here"
            yield Refusal(spec.id, got, want, "Declare it under nics as well, or take it out of that file")


def _owned_twice(spec: NetworkSpec, where: str, paths: Sequence[str]) -> Iterator[Refusal]:
    for path in paths:
        if path.startswith(unmanaged.IFUPDOWN) and spec.takeover == "ifupdown":
            continue
        way = ", or write `takeover: ifupdown` under network" if path.startswith(unmanaged.IFUPDOWN) else ""
        got, want = f"got {path}, which sets it up as well", "a link has one owner"
        yield Refusal(where, got, want, f"Take it out of that file{way}")


def _carries_others(spec: NetworkSpec, gone: Sequence[str], facts: Facts) -> Iterator[Refusal]:
    """Refuse to delete a device on which somebody else's stands: it would go along."""
    for link in facts.links:
        if link.kind == "vlan" and link.parent in gone and link.name not in (*gone, *spec.devices):
            got, want = f"got {link.name} on it, which nobody declares", "it has to be made anew, or to go"
            fix = f"Declare {link.name} under vlans, or find out who has made it and needs it"
            yield Refusal(f"{spec.id}: {link.parent}", got, want, fix)


def _is_dark(spec: NetworkSpec, item: Difference, facts: Facts) -> bool:
    """Return whether a person mends *item*: it lacks a port or a signal, or is a route of another author."""
    sort, _, key = item.thing.partition(":")
    if item.name == PREFERRED:
        return True  # the other route is not ours to remove
    if sort == "route":
        key = next(route.on for route in spec.routes if route.name == key)
    elif sort != "link" or item.name == "files_of_others":
        return False
    elif key in {port.name for port in spec.ports} and not _is_here(spec, key, facts):
        return True
    elif item.name == "members":
        members = next(bond.members for bond in spec.bonds if bond.name == key)
        return not all(_is_here(spec, member, facts) for member in members)
    elif item.name not in LIVING:
        return False
    link = facts.link(key)
    try:
        return link is not None and not link.carrier
    except UnknownFact:  # it is switched off, and that can be mended
        return False


def _is_here(spec: NetworkSpec, name: str, facts: Facts) -> bool:
    port = next(port for port in spec.ports if port.name == name)
    # where no place can be shown, a port is what it is called
    return facts.port(port.mac, port.pci) is not None or (port.mac is None and facts.link(name) is not None)


def _steps(
    spec: NetworkSpec, texts: Mapping[str, FileText], mended: Sequence[Difference], facts: Facts
) -> Iterator[Step]:
    owner = facts.owner(OWNER) or {}
    wrote, made = set(owner.get("wrote", ())), set(owner.get("made", ()))
    aside = tuple(sorted(unmanaged.ifupdown(facts))) if spec.takeover else ()
    gone = _gone(spec, mended, facts)
    text = owner_text(spec, "creating", wrote | texts.keys(), made | {*spec.devices})
    yield Put("note in the owner file: creating", spec.owner_file, text, 0o600)
    if stood := (*(path for path in texts if path not in wrote), *aside):
        yield ownership.keep(OWNER, stood)
    stale = tuple(sorted(wrote - texts.keys()))
    change: list[Step] = [Put(f"write {path}", path, file.text, file.mode) for path, file in texts.items()]
    change += [ownership.restore(OWNER, stale)] if stale else []
    change += [Remove(f"set {path} aside", path) for path in aside]
    links = [link.name for link in spec.links]
    change.append(
        commands.apply(gone, spec.ports, _changed(spec, mended), links, spec.devices, spec.takeover is not None)
    )
    also = commands.undo(gone, spec.ports, spec.devices)
    yield from guarded(OWNER, (*texts, *stale, *aside), also, change, spec.confirm_seconds)
    text = owner_text(spec, "ready", {*texts}, {*spec.devices})
    yield Put("note in the owner file: ready", spec.owner_file, text, 0o600)


def _gone(spec: NetworkSpec, mended: Sequence[Difference], facts: Facts) -> tuple[str, ...]:
    """Return the devices to delete, VLANs first: nobody wants them any more, or they cannot become what is wanted."""
    unwanted = {*left_over(facts)} - {*spec.devices}
    anew = {
        item.thing.partition(":")[2] for item in mended if item.thing.startswith("link:") and item.name in _AT_BIRTH
    }
    below = {vlan.name for vlan in spec.vlans if vlan.link in anew}
    here = {link.name: link.kind for link in facts.links}
    names = (unwanted | anew | below) & here.keys()
    return tuple(sorted(names, key=lambda name: (here[name] != "vlan", name)))


_AT_BIRTH = ("kind", "mode", "id", "parent")


def _changed(spec: NetworkSpec, mended: Sequence[Difference]) -> tuple[str, ...]:
    """Return the links of which something differs that their files do not say, in the order of declaration."""
    routes = {route.name: route.on for route in spec.routes}
    things = (item.thing.partition(":") for item in mended)
    names = {routes[key] if sort == "route" else key for sort, _, key in things if sort in ("link", "route")}
    names |= {member for bond in spec.bonds if bond.name in names for member in bond.members}
    return tuple(link.name for link in spec.links if link.name in names)


def removal(spec: NetworkSpec, facts: Facts) -> Plan:
    """Return the step that forgets whose it is: what leads to the host is not taken from under those who use it."""
    if refusals := ownership.foreign(spec.id, spec.fleet, OWNER, "network", facts):
        return Plan(refusals=refusals)
    if facts.owner(OWNER) is None:
        return Plan()
    step = Remove(f"remove {spec.owner_file}", spec.owner_file)
    return Plan(steps=(step,), notes=(f"{spec.id}: {REMAINS}",))
