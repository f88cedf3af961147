"""Hosts as the text of a fleet's file: written down, or added to one that is there, whose own text stays as it is."""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from rackwright.errors import DeclarationError, DeclarationErrors
from rackwright.fleet.describe_host import Discovered
from rackwright.fleet.source import Source, read
from rackwright.schema.problem import Problem, hint

STEP = "  "
Hosts = Mapping[str, Discovered]
"""By the names that they have in the fleet."""


def text(path: Path, there: bool, logins: Iterable[Mapping[str, Any]], hosts: Hosts) -> str:
    """Return what stands in *path* with *hosts* added; where nothing is *there*, a whole fleet of its name.

    Raises:
        DeclarationErrors: some of them are there already, or there is no place for them.
    """
    if there:
        return _added(read(path), hosts)
    head = "".join(f"    - {_flow(login)}\n" for login in logins)
    return f"fleet: {path.stem}\nssh:\n  logins:\n{head}hosts:\n{_lines(hosts)}"


def with_another_drive(path: Path, host: str, old: str, new: str) -> str:
    """Return what stands in *path* with the drive *new* in the line of *old*.

    Raises:
        DeclarationErrors: the host has no line for *old*, or one for *new*.
    """
    source = _read(path, f"Write {new} for {old} by hand")
    keys = ("hosts", host, "drives")
    drives = (source.data.get("hosts") or {}).get(host, {}).get("drives") or []
    serials = [drive.get("serial") for drive in drives]
    if new in serials:
        fix = f"Move `tier` from the line of {old} to its line"
        problem = Problem(f"got {new}", "it has a line of its own", fix)
        raise DeclarationErrors([source.error(problem, (*keys, serials.index(new), "serial"))])
    place = source.span((*keys, serials.index(old), "serial")) if old in serials else None
    if place is None:
        known = ", ".join(map(str, serials)) or "none"
        problem = Problem(
            f"got {old}", f"drives of {host}: {known}", hint(old, map(str, serials), "Correct the serial")
        )
        raise DeclarationErrors([source.error(problem, keys)])
    text = path.read_text(encoding="utf-8")
    return f"{text[: place[0]]}{_flow(new)}{text[place[1] :]}"


def with_identity(path: Path, host: str, identity: Mapping[str, str]) -> str:
    """Return what stands in *path* with other values of the *identity* that it has of *host*.

    Raises:
        DeclarationErrors: the host has no line for one of them.
    """
    fix = f"Write identity: {_flow(dict(identity))} by hand"
    source, keys = _read(path, fix), ("hosts", host, "identity")
    places = {field: source.span((*keys, field)) for field in identity}
    text = path.read_text(encoding="utf-8")
    # from the last one on, so that the places of the others stay right
    for field, place in sorted(places.items(), key=lambda found: found[1] or (0, 0), reverse=True):
        if place is None:
            raise DeclarationErrors([source.error(Problem(f"got no {field}", "its value is exchanged", fix), keys)])
        text = f"{text[: place[0]]}{_flow(identity[field])}{text[place[1] :]}"
    return text


def _read(path: Path, fix: str) -> Source:
    if path.suffix != ".yaml":
        want = "a line is exchanged in YAML alone"
        raise DeclarationErrors([DeclarationError(str(path), "got a program", want, fix)])
    source = read(path)
    if used := source.data.get("uses"):
        got, want = f"got a fleet that uses the hosts of {used}", "a line is exchanged where it stands"
        raise DeclarationErrors([source.error(Problem(got, want, f"Name a stack of {used}"), ("uses",))])
    return source


def _lines(hosts: Hosts, column: int = 2) -> str:
    """Return *hosts* as they stand under ``hosts:``, each with its notes above it."""
    written: list[str] = []
    for name, host in hosts.items():
        written += [f"# {note}" for note in host.notes]
        written += [f"{name}:", *(f"{STEP}{line}" for line in _host(host.host))]
    return "".join(f"{' ' * column}{line}\n" for line in written)


def _added(source: Source, hosts: Hosts) -> str:
    """Return the text of *source* with *hosts* behind those that are there."""
    there = source.data.get("hosts")
    place = source.block(("hosts",))
    if place is None or not isinstance(there, dict):
        want, fix = "there are hosts, each in lines of its own, to add others to", "Add the printed lines by hand"
        raise DeclarationErrors([source.error(Problem("got none", want, fix), ("hosts",))])
    errors: list[DeclarationError] = [
        source.error(
            Problem(f"got the host {name} once more", "each has a name of its own", "Remove its lines first"),
            ("hosts", name),
        )
        for name in hosts
        if name in there
    ]
    if errors:
        raise DeclarationErrors(errors)
    column, last = place
    before = source.path.read_text(encoding="utf-8").splitlines(keepends=True)
    if not before[last - 1].endswith("\n"):
        before[last - 1] += "\n"
    return "".join([*before[:last], _lines(hosts, column), *before[last:]])


def _host(host: Mapping[str, Any]) -> Iterator[str]:
    for key, value in host.items():
        if key == "tiers":
            yield f"{key}:"
            yield from (f"{STEP}{name}: {_flow(tier)}" for name, tier in value.items())
        elif isinstance(value, list):
            yield f"{key}:"
            yield from (f"{STEP}- {_flow(item)}" for item in value)
        else:
            yield f"{key}: {_flow(value)}"


def _flow(value: Any) -> str:
    text = yaml.safe_dump(value, default_flow_style=True, sort_keys=False, allow_unicode=True, width=10**6)
    return text.removesuffix("...\n").strip()
