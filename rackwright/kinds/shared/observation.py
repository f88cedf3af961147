"""How every kind observes: one look per property, and a fact that is missing becomes Unknown."""

from collections.abc import Callable, Sequence

from rackwright.core.contract import Absent, Claim, Observation, UnknownValue, Value
from rackwright.facts.facts import Facts
from rackwright.facts.view import UnknownFact
from rackwright.kinds.shared.unit_overrides import OVERRIDES

Look = Callable[[Facts, str, str, str, Claim], Value]
"""(facts, sort, key, property, claim) for the thing ``sort:key``; raises UnknownFact where facts cannot tell."""


def observe(look: Look, claims: Sequence[Claim], facts: Facts) -> Observation:
    """Return what *look* finds for every property of every claim; several claims may be about one thing."""
    found: dict[str, dict[str, Value]] = {}
    for claim in claims:
        seen = {name: _look(look, facts, name, claim) for name in claim.want}
        found.setdefault(claim.thing, {}).update(seen)
    return found


def _look(look: Look, facts: Facts, name: str, claim: Claim) -> Value:
    sort, key = claim.thing.split(":", 1)
    try:
        return look(facts, sort, key, name, claim)
    except UnknownFact as reason:
        return UnknownValue(str(reason))


def drive(facts: Facts, serial: str, name: str) -> Value:
    """Look at a property of a drive; what an absent drive is like cannot be known."""
    found = facts.drive(serial)
    if name == "present":
        return found is not None
    if found is None:
        return UnknownValue("the drive is not there")
    match name:
        case "bus":
            return found.bus
        case "size_bytes":
            return found.size_bytes
        case "health":
            return "passed" if found.health.passed else "failing"
        case _:
            counted: int | None = getattr(found.health, name)
            return UnknownValue("the drive does not count that") if counted is None else counted


def identity(facts: Facts, name: str) -> Value:
    """Look at one of the host's identities: serial, uuid, bmc_mac or device_tree_serial."""
    value: str | None = getattr(facts.identity, name)
    return Absent() if value is None else value


def file(facts: Facts, path: str, name: str) -> Value:
    """Look at a file: present, content (its digest), mode, owner."""
    found = facts.file(path)
    if name == "present":
        return found is not None
    if found is None:
        return Absent()
    return found.digest if name == "content" else found.mode if name == "mode" else found.owner


def package(facts: Facts, name: str, what: str) -> Value:
    """Look at a package: installed, version, held."""
    found = facts.package(name)
    if what == "installed":
        return found is not None
    return Absent() if found is None else found.held if what == "held" else found.version


def unit(facts: Facts, name: str, what: str) -> Value:
    """Look at a unit: its state at boot, whether it is active, and what changes it beside its own file."""
    if what == OVERRIDES:
        return overrides(facts, name)
    found = facts.unit(name)
    return Absent() if found is None else found.enabled if what == "state" else found.active


def overrides(facts: Facts, name: str) -> Value:
    """Look at what changes a unit; a timer, a path or a socket is as good as the service that it starts."""
    stem, _, kind = name.rpartition(".")
    names = (name, f"{stem}.service") if kind in ("timer", "path", "socket") else (name,)
    return tuple(sorted({path for each in names for path in facts.unit_overrides(each)}))


def directory(facts: Facts, path: str, what: str) -> Value:
    """Look at a directory: mode, owner."""
    found = facts.directory(path)
    return Absent() if found is None else found.mode if what == "mode" else found.owner


def account(facts: Facts, name: str, what: str) -> Value:
    """Look at an account: groups, home, shell, and what its password is like."""
    user = facts.user(name)
    if user is None:
        return Absent()
    found: dict[str, Value] = {"groups": user.groups, "home": user.home, "shell": user.shell}
    return user.password if what == "password" else found[what]


def standing(facts: Facts, sort: str, key: str, name: str) -> Value:
    """Look at what everything has that stands on a host with an account of its own: host, files, unit, owner file."""
    match sort:
        case "host":
            return identity(facts, name)
        case "file":
            return file(facts, key, name)
        case "unit":
            return unit(facts, key, name)
        case "directory":
            return directory(facts, key, name)
        case "user":
            return account(facts, key, name)
        case "mount":
            return any(mount.target == key for mount in facts.mounts)
        case "link":
            link = facts.link(key)
            return Absent() if link is None else link.up
        case _:
            return owner(facts, key, name)


def owner(facts: Facts, name: str, what: str) -> Value:
    """Look at what an owner file says."""
    found = facts.owner(name)
    return Absent() if found is None else str(found.get(what))
