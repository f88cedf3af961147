"""The observation of claims for every kind: one call per property, and a missing fact becomes UnknownValue."""

import posixpath
from collections.abc import Callable, Sequence

from rackwright.core.contract import Absent, Claim, Observation, UnknownValue, Value
from rackwright.errors import one_line
from rackwright.facts.facts import Facts
from rackwright.facts.probe.system import MISSING
from rackwright.facts.view import UnknownFact
from rackwright.kinds.shared.unit_overrides import OVERRIDES

ObserveProperty = Callable[[Facts, str, str, str, Claim], Value]
"""A function of (facts, sort, key, property, claim) that returns a property's value for the thing ``sort:key``.

It raises UnknownFact if the facts do not have the value.
"""


def observe(observe_property: ObserveProperty, claims: Sequence[Claim], facts: Facts) -> Observation:
    """Return the value of every property of every claim; several claims may have the same thing."""
    observation: dict[str, dict[str, Value]] = {}
    for claim in claims:
        sort, _, key = claim.thing.partition(":")
        values = observation.setdefault(claim.thing, {})
        for name in claim.want:
            try:
                values[name] = observe_property(facts, sort, key, name, claim)
            except UnknownFact as reason:
                values[name] = UnknownValue(str(reason))
            except Exception as error:  # a hostile host may send anything; its other values are still compared
                values[name] = UnknownValue(
                    f"the facts cannot be read: {type(error).__name__}: {one_line(str(error))[:200]}"
                )
    return observation


def drive(facts: Facts, serial: str, name: str) -> Value:
    """Return a property of a drive; each but ``present`` is unknown for an absent drive."""
    drive = facts.drive(serial)
    if name == "present":
        return drive is not None
    if drive is None:
        return UnknownValue("the drive is not there")
    match name:
        case "bus":
            return drive.bus
        case "size_bytes":
            return drive.size_bytes
        case "health":
            return "passed" if drive.health.passed else "failing"
        case _:
            counter: int | None = getattr(drive.health, name)
            return UnknownValue("the drive does not count that") if counter is None else counter


def identity(facts: Facts, name: str) -> Value:
    """Return one of the host's identities: serial, uuid, bmc_mac or device_tree_serial."""
    value: str | None = getattr(facts.identity, name)
    return Absent() if value is None else value


def file(facts: Facts, path: str, name: str) -> Value:
    """Return a property of a file: present, content (the digest), mode or owner."""
    file = facts.file(path)
    if name == "present":
        return file is not None
    if file is None:
        return Absent()
    return file.digest if name == "content" else file.mode if name == "mode" else file.owner


LINK = "-> "
"""Beginning of the content of a link, which is its target."""


def link_content(facts: Facts, path: str, want: str) -> Value:
    """Return the target of a link: that of *want* if the link leads to the same file by another path."""
    found = file(facts, path, "content")
    link = facts.file(path)
    if link is None or not isinstance(found, str) or not found.startswith(LINK) or found.endswith(MISSING):
        return found
    folder = posixpath.dirname(path)
    target, wanted = (posixpath.normpath(posixpath.join(folder, text.removeprefix(LINK))) for text in (found, want))
    return want if target == wanted or wanted in link.same_as else found


def package(facts: Facts, key: str, name: str) -> Value:
    """Return a property of a package: installed, version or held."""
    package = facts.package(key)
    if name == "installed":
        return package is not None
    return Absent() if package is None else package.held if name == "held" else package.version


def unit(facts: Facts, key: str, name: str) -> Value:
    """Return a property of a unit: its state at boot, whether it is active, or its overrides."""
    if name == OVERRIDES:
        return overrides(facts, key)
    unit = facts.unit(key)
    return Absent() if unit is None else unit.enabled if name == "state" else unit.active


def overrides(facts: Facts, key: str) -> Value:
    """Return the files that override a unit; for a timer, path or socket, also those of the service that it starts."""
    stem, _, kind = key.rpartition(".")
    units = (key, f"{stem}.service") if kind in ("timer", "path", "socket") else (key,)
    return tuple(sorted({path for unit in units for path in facts.unit_overrides(unit)}))


def directory(facts: Facts, path: str, name: str) -> Value:
    """Return a property of a directory: mode, owner, or the names in it."""
    if name == "names":
        names = facts.listing(path)
        return Absent() if names is None else names
    directory = facts.directory(path)
    return Absent() if directory is None else directory.mode if name == "mode" else directory.owner


def account(facts: Facts, key: str, name: str) -> Value:
    """Return a property of an account: groups, home, shell, or the state of its password."""
    user = facts.user(key)
    if user is None:
        return Absent()
    values: dict[str, Value] = {"groups": user.groups, "home": user.home, "shell": user.shell}
    return user.password if name == "password" else values[name]


def service(facts: Facts, sort: str, key: str, name: str) -> Value:
    """Return a property of anything that a service with its own account has: host, file, unit, owner file."""
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


def owner(facts: Facts, key: str, name: str) -> Value:
    """Return a property of an owner file."""
    owner = facts.owner(key)
    return Absent() if owner is None else str(owner.get(name))
