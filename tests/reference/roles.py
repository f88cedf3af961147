"""The pages of the roles: variables from meta/argument_specs.yml and defaults/main.yml, and notes from README.md."""

import json
import re
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from rackwright.kinds.role.refusals import refusals
from tests.reference.markdown import code, page, table
from tests.support.log import ROOT
from tests.support.our_roles import ROLES

INTRODUCTION = """\
A host, a group or a fleet lists roles under `roles:`, each with its variables: `roles: {base: {timezone: Etc/UTC}}`.
A value may be `{secret: NAME}`: see [secrets](../guides/secrets.md)."""
KINDS = {
    "str": "string",
    "int": "integer",
    "float": "number",
    "bool": "boolean",
    "dict": "mapping",
    "raw": "any value",
    "path": "path",
}
"""Words for Ansible's types, as in the page of a fleet's keys."""
TABLE = re.compile(r"(?:^\|.*\n)+", re.M)


def render() -> str:
    """Return docs/reference/roles.md, the list of all roles."""
    rows = ((f"[{name}](roles/{name}.md)", _purpose(name), ", ".join(ROLES[name].by_os)) for name in ROLES)
    return page("Roles", "roles/", INTRODUCTION, table(("role", "purpose", "systems"), rows))


def render_role(name: str) -> str:
    """Return the page of a role: its variables, then the other sections of its README."""
    source = ROLES[name]
    facts = [f"Systems: {', '.join(source.by_os)}."]
    reason = source.unverified_reason
    warning = f"> [!WARNING]\n> Not verified on hardware: {reason}. Needs `unverified: accepted`." if reason else ""
    if before := [*source.after, *source.follows]:
        facts.append(f"Comes after {', '.join(map(code, before))}.")
    required = {
        f"{name}_{problem.path[0]}" for problem in refusals(source, next(iter(source.by_os)), {}) if problem.path
    }
    rows = _rows(source.options, source.defaults, f"{name}_", required)
    variables = table(("variable", "meaning", "value", "default"), rows)
    notes = TABLE.split(_readme(name), maxsplit=1)[1].strip()
    return page(name, f"roles/{name}", _purpose(name), " ".join(facts), warning, variables, notes)


def _purpose(name: str) -> str:
    """Return the first paragraph of the role's README."""
    return next(part for part in _readme(name).split("\n\n") if not part.startswith("#"))


def _readme(name: str) -> str:
    return (ROOT / "roles" / name / "README.md").read_text()


def _rows(
    options: Mapping[str, Any], defaults: Mapping[str, Any], prefix: str, required: Collection[str]
) -> Iterator[tuple[str, str, str, str]]:
    """Yield a row for each variable.

    Args:
        required: The variables without which the role alone is refused.
    """
    for name, option in options.items():
        short = name.removeprefix(prefix)
        default = _default(defaults.get(name, option.get("default")))
        if option.get("required") or (name in required and not default):
            default = "required"
        yield code(short), str(option.get("description", "")), _kind(option), default
        for key, each in option.get("options", {}).items():
            needed = "required" if each.get("required") else ""
            yield code(f"{short}.{key}"), str(each.get("description", "")), _kind(each), needed


def _kind(option: Mapping[str, Any]) -> str:
    if choices := option.get("choices"):
        return " ".join(map(code, choices))
    if (name := option.get("type", "str")) == "list":
        return f"list of {KINDS[option.get('elements', 'raw')]}"
    return KINDS[name]


def _default(value: Any) -> str:
    if value in (None, "", [], {}):
        return ""
    return code(value if isinstance(value, str) else json.dumps(value))
