"""The page of the roles' variables, from meta/argument_specs.yml and defaults/main.yml."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from rackwright.core.repository import RoleSource
from tests.reference.markdown import code, page, table
from tests.support.log import ROOT
from tests.support.our_roles import ROLES

INTRODUCTION = """\
A host, a group or a fleet lists roles under `roles:`, each with its variables: `roles: {base: {timezone: Etc/UTC}}`.
A value may be `{secret: NAME}`: see [secrets](../guides/secrets.md). `roles/ROLE/README.md` in the checkout has
examples and notes."""


def render() -> str:
    """Return docs/reference/roles.md."""
    return page("Roles", "roles/*/meta and roles/*/defaults", INTRODUCTION, *map(_section, ROLES.values()))


def _section(source: RoleSource) -> str:
    facts = [f"Systems: {', '.join(source.by_os)}."]
    if source.unverified_reason:
        facts.append(f"**Not verified on hardware**: {source.unverified_reason}. Needs `unverified: accepted`.")
    if before := [*source.after, *source.follows]:
        facts.append(f"Comes after {', '.join(map(code, before))}.")
    rows = list(_rows(source.options, source.defaults, f"{source.name}_"))
    head = ("variable", "meaning", "value", "default")
    return "\n\n".join([f"## {source.name}", _purpose(source.name), " ".join(facts), table(head, rows)])


def _purpose(name: str) -> str:
    """Return the first paragraph of the role's README."""
    text = (ROOT / "roles" / name / "README.md").read_text()
    return next(part for part in text.split("\n\n") if not part.startswith("#"))


def _rows(options: Mapping[str, Any], defaults: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, str, str, str]]:
    for name, option in options.items():
        short = name.removeprefix(prefix)
        default = "required" if option.get("required") else _default(defaults.get(name, option.get("default")))
        yield code(short), str(option.get("description", "")), _kind(option), default
        for key, each in option.get("options", {}).items():
            needed = "required" if each.get("required") else ""
            yield code(f"{short}.{key}"), str(each.get("description", "")), _kind(each), needed


def _kind(option: Mapping[str, Any]) -> str:
    if choices := option.get("choices"):
        return " ".join(map(code, choices))
    name = str(option.get("type", "str"))
    return f"list of {option.get('elements', 'any value')}" if name == "list" else name


def _default(value: Any) -> str:
    if value in (None, "", [], {}):
        return ""
    return code(value if isinstance(value, str) else json.dumps(value))
