"""Edits of the hosts in a fleet's file, which keep all other text of the file."""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from rackwright.errors import DeclarationError, Diagnostic
from rackwright.fleet.describe_host import HostDescription
from rackwright.fleet.source import Source, read
from rackwright.fleet.upgrade import KEY, SCHEMA_VERSION
from rackwright.schema.problem import Problem, hint

STEP = "  "
Hosts = Mapping[str, HostDescription]
"""Hosts by their names in the fleet."""


def add_hosts(path: Path, exists: bool, logins: Iterable[Mapping[str, Any]], hosts: Hosts) -> str:
    """Return the text of *path* with *hosts* added; a new fleet, named after the file, unless the file *exists*.

    Raises:
        DeclarationError: the file has some of the hosts already, or has no place for more.
    """
    if exists:
        return _insert_hosts(read(path), hosts)
    head = "".join(f"    - {_flow(login)}\n" for login in logins)
    return f"fleet: {path.stem}\n{KEY}: {SCHEMA_VERSION}\nssh:\n  logins:\n{head}hosts:\n{_format_hosts(hosts)}"


def replace_drive(path: Path, host: str, old: str, new: str) -> str:
    """Return the text of *path* with the drive *new* in the line of *old*.

    Raises:
        DeclarationError: the host has no line for *old*, or one for *new*.
    """
    source = _read_yaml(path, f"Write {new} for {old} by hand")
    keys = ("hosts", host, "drives")
    drives = (source.data.get("hosts") or {}).get(host, {}).get("drives") or []
    serials = [drive.get("serial") for drive in drives]
    if new in serials:
        help = f"Move `tier` from the line of {old} to this line"
        problem = Problem(f"the new drive {new} is declared already", "a drive without a line of its own", help)
        raise DeclarationError(source.error(problem, (*keys, serials.index(new), "serial")))
    span = source.span((*keys, serials.index(old), "serial")) if old in serials else None
    if span is None:
        expected = f"one of {', '.join(map(str, serials))}" if serials else ""
        help = hint(old, map(str, serials), "Correct the serial")
        problem = Problem(f"host {host} declares no drive {old}", expected, help)
        raise DeclarationError(source.error(problem, keys))
    text = path.read_text(encoding="utf-8")
    return f"{text[: span[0]]}{_flow(new)}{text[span[1] :]}"


def replace_identity(path: Path, host: str, identity: Mapping[str, str]) -> str:
    """Return the text of *path* with the values of *identity* in the lines of *host*.

    Raises:
        DeclarationError: the host has no line for one of the fields.
    """
    help = f"Write identity: {_flow(dict(identity))} by hand"
    source, keys = _read_yaml(path, help), ("hosts", host, "identity")
    spans = {field: source.span((*keys, field)) for field in identity}
    text = path.read_text(encoding="utf-8")
    # the last one first, so that the spans of the others stay valid
    for field, span in sorted(spans.items(), key=lambda pair: pair[1] or (0, 0), reverse=True):
        if span is None:
            problem = Problem(f"{field} is not written here", "a value in the lines of this host", help)
            raise DeclarationError(source.error(problem, keys))
        text = f"{text[: span[0]]}{_flow(identity[field])}{text[span[1] :]}"
    return text


def _read_yaml(path: Path, help: str) -> Source:
    if path.suffix != ".yaml":
        problem = "rackwright cannot edit a fleet that is a program"
        raise DeclarationError(Diagnostic(str(path), problem, "a fleet in YAML", help))
    source = read(path)
    if used := source.data.get("uses"):
        problem, expected = f"the fleet uses the hosts of {used}", "a fleet that declares the hosts itself"
        raise DeclarationError(
            source.error(Problem(problem, expected, f"Name a stack whose fleet is {used}"), ("uses",))
        )
    return source


def _format_hosts(hosts: Hosts, column: int = 2) -> str:
    """Return *hosts* as lines below ``hosts:``, each host with its notes above it."""
    lines: list[str] = []
    for name, host in hosts.items():
        lines += [f"# {note}" for note in host.notes]
        lines += [f"{name}:", *(f"{STEP}{line}" for line in _format_host(host.host))]
    return "".join(f"{' ' * column}{line}\n" for line in lines)


def _insert_hosts(source: Source, hosts: Hosts) -> str:
    """Return the text of *source* with *hosts* after its present hosts."""
    present = source.data.get("hosts")
    block = source.block(("hosts",))
    if block is None or not isinstance(present, dict):
        note = "rackwright adds other hosts after it"
        expected, help = "a host in lines of its own", "Add the printed lines by hand"
        raise DeclarationError(source.error(Problem("no host has lines here", expected, help, note=note), ("hosts",)))
    errors: list[Diagnostic] = [
        source.error(
            Problem(f"the host {name} is declared already", "a new name", "Remove its lines first"),
            ("hosts", name),
        )
        for name in hosts
        if name in present
    ]
    if errors:
        raise DeclarationError(*errors)
    column, last = block
    before = source.path.read_text(encoding="utf-8").splitlines(keepends=True)
    if not before[last - 1].endswith("\n"):
        before[last - 1] += "\n"
    return "".join([*before[:last], _format_hosts(hosts, column), *before[last:]])


def _format_host(host: Mapping[str, Any]) -> Iterator[str]:
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
