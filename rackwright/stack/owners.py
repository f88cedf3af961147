"""The owners of the things of a host: one for each thing, or several resources that need a thing in the same state."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rackwright.core.contract import Claim, Source, UnknownValue, Within
from rackwright.core.repository import RoleSource
from rackwright.errors import Diagnostic
from rackwright.kinds.role.refusals import ports
from rackwright.kinds.role.spec import RoleSpec
from rackwright.stack.resource import DeclaredResource

SERVER = "rackwright:workload:ModelServer"
SHARED = ("directory", "group", "kernel_parameter", "module", "package", "sysctl", "user")
"""Sorts of things that several resources may need, if all of them want the thing in the same state.

A file, a unit or a port always has one owner.
"""
_IN_USE = ("version", "held")
"""Properties that only an installed package has."""


def duplicate_owners(
    resources: Sequence[tuple[DeclaredResource, Sequence[Claim]]], roles: Mapping[str, RoleSource]
) -> Iterator[Diagnostic]:
    """Yield an error for each thing of a host or endpoint that two resources own and that they cannot share."""
    owners: dict[Source, dict[str, list[tuple[DeclaredResource, Claim]]]] = {}
    for resource, claims in resources:
        own = owners.setdefault(resource.spec.facts_source, {})
        refused: set[str] = set()
        for claim in (*claims, *port_claims(resource, roles)):
            others = own.setdefault(claim.thing, [])
            # a resource may split the properties of a thing into two claims
            first = next(((by, other) for by, other in others if by is not resource and _collide(claim, other)), None)
            others.append((resource, claim))
            if first and claim.thing not in refused:
                refused.add(claim.thing)
                yield _error(resource, claim, *first)
    yield from _undeclared_names(resources)


def _undeclared_names(resources: Sequence[tuple[DeclaredResource, Sequence[Claim]]]) -> Iterator[Diagnostic]:
    """Yield an error for each file in a directory that another resource keeps free of other names."""
    closed: dict[tuple[Source, str], tuple[DeclaredResource, Claim]] = {
        (resource.spec.facts_source, claim.thing.partition(":")[2]): (resource, claim)
        for resource, claims in resources
        for claim in claims
        if claim.thing.startswith("directory:") and isinstance(claim.want.get("names"), Within)
    }
    for resource, claims in resources:
        for claim in claims:
            sort, _, path = claim.thing.partition(":")
            directory, _, name = path.rpartition("/")
            found = closed.get((resource.spec.facts_source, directory)) if sort == "file" else None
            if found is None or found[0] is resource or claim.want.get("present") is False:
                continue
            names = found[1].want["names"]
            if isinstance(names, Within) and name not in names.values:
                problem = f"got file {path}, in a directory of {found[0].name}"
                expected = f"{directory} holds only {_format_value(names)}"
                help = f"Move {resource.name} or {found[0].name} to another host"
                yield Diagnostic(_where(resource), problem, expected, help)


def _collide(one: Claim, other: Claim) -> bool:
    """Return whether two resources with these claims on one thing cannot stand together."""
    sort = one.thing.partition(":")[0]
    if not (one.owned and other.owned):
        return sort == "socket" and (one.want.get("listening") is False) is not (other.want.get("listening") is False)
    if one.want.get("present") is False and other.want.get("present") is False:
        return False
    if sort not in SHARED:
        return True
    return _refuses(one, other) or _refuses(other, one) or any(_differs(one, other, name) for name in one.want)


def port_claims(resource: DeclaredResource, roles: Mapping[str, RoleSource]) -> Iterator[Claim]:
    """Yield the ports on which programs of *resource* listen beside those of its claims."""
    found: Sequence[int] = ()
    spec: Any = resource.spec
    if isinstance(spec, RoleSpec):
        found = ports(roles[spec.role], spec.about.os, spec.variables)
    elif resource.token == SERVER:
        found = (spec.declared.port, *(spec.declared.vllm.ports if spec.declared.vllm else ()))
    for port in found:
        yield Claim(f"socket:tcp:{port}", {"listening": True})


def _differs(one: Claim, other: Claim, name: str) -> bool:
    if name not in other.want:
        return False
    want, others = one.want[name], other.want[name]
    return want != others and not isinstance(want, UnknownValue) and not isinstance(others, UnknownValue)


def _refuses(one: Claim, other: Claim) -> bool:
    """Return whether *one* wants a package to be absent that *other* wants in a version."""
    return one.want.get("installed") is False and any(name in other.want for name in _IN_USE)


def _error(resource: DeclaredResource, claim: Claim, other: DeclaredResource, others: Claim) -> Diagnostic:
    sort, _, name = claim.thing.partition(":")
    where = _where(resource)
    first, second = other.name, resource.name
    if sort == "socket":
        protocol, _, port = name.partition(":")
        problem = f"got port {port} ({protocol}), on which {first} listens"
        expected, help = "each port of a host has one program", f"Declare another port for {second} or for {first}"
        return Diagnostic(where, problem, expected, help)
    if sort in SHARED:
        wanted, others_want = _format_want(claim), _format_want(others)
        problem = f"got {sort} {name} with {wanted}, and {first} wants {others_want}"
        expected = f"resources that share a {sort} want it alike"
        return Diagnostic(where, problem, expected, f"Declare it alike in both, or move {second} to another host")
    problem = f"got {sort} {name}, which belongs to {first}"
    expected = f"a {sort} has one owner"
    help = f"Remove it from the settings of {second} or {first}, or move one of them to another host"
    return Diagnostic(where, problem, expected, help)


def _where(resource: DeclaredResource) -> str:
    source = resource.spec.facts_source
    spec: Any = resource.spec
    if resource.token == SERVER:
        return f"servers.{spec.name}"
    if isinstance(spec, RoleSpec):
        return f"hosts.{spec.host}.roles.{spec.role}"
    return f"hosts.{source}"


def _format_want(claim: Claim) -> str:
    """Return the wanted properties of a claim: ``value 1``."""
    return ", ".join(f"{name} {_format_value(value)}" for name, value in claim.want.items())


def _format_value(value: object) -> str:
    match value:
        case bool():
            return "yes" if value else "no"
        case tuple():
            return " ".join(map(str, value)) or "none"
        case str() | int() | float():
            return str(value)
    return " ".join(map(str, getattr(value, "values", ()))) or "none"
