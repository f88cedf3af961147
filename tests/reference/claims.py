"""The page of the claims of each kind and role, from the recorded hosts of tests/kinds and from meta/claims.yml."""

from collections.abc import Iterator, Mapping
from typing import Any

from rackwright.kinds.role.entries import SORTS
from rackwright.kinds.table import KINDS
from tests.reference.markdown import code, page, table
from tests.support.our_roles import ROLES
from tests.support.recorded_hosts import AT_ENDPOINTS, RESOURCES, STACK

ROLE = "rackwright:software:Role"
INTRODUCTION = """\
A claim is one thing that a declaration requires of a host, with its properties. Previews and audits name a property by
its path, such as `md:gpu-01:hot.level`. A resource owns a claim, or requires it of another owner."""


def render() -> str:
    """Return docs/reference/claims.md."""
    kinds = [_kind(token) for token in KINDS if token != ROLE]
    roles = [_role(name) for name in ROLES]
    return page("Claims", "the kinds and roles/*/meta/claims.yml", INTRODUCTION, *kinds, "## Roles", *roles)


def _kind(token: str) -> str:
    """Return the claims of a kind: its sorts of things with all their properties."""
    owned: dict[str, bool] = {}
    properties: dict[str, set[str]] = {}
    for declared in (*RESOURCES.values(), *AT_ENDPOINTS.values()):
        if declared.kind.token == token:
            for claim in declared.kind.claims(declared.spec, STACK.repository):
                sort = claim.thing.partition(":")[0]
                owned[sort] = owned.get(sort, False) or claim.owned
                properties.setdefault(sort, set()).update(claim.want)
    rows = [
        (code(sort), "owned" if owned[sort] else "required", " ".join(map(code, sorted(properties[sort]))))
        for sort in sorted(properties)
    ]
    return f"## {token}\n\n{table(('claim', 'the resource', 'properties'), rows)}"


def _role(name: str) -> str:
    rows = [(code(thing), note) for thing, note in dict(_entries(ROLES[name].claims)).items()]
    return f"### {name}\n\n{table(('claim', 'remark'), rows) or 'The role has no claims of its own.'}"


def _entries(claims: tuple[Mapping[str, Any], ...]) -> Iterator[tuple[str, str]]:
    for entry in claims:
        sort = next(key for key in entry if key in SORTS)
        remarks = ["required" if entry.get("owned") is False else ""]
        remarks += ["one for each of a list" if "each" in entry else "", "under a condition" if "when" in entry else ""]
        remarks += ["by hand" if entry.get("by_hand") else "", "after a restart" if entry.get("restart") else ""]
        yield f"{sort}:{entry[sort]}", ", ".join(filter(None, remarks))
