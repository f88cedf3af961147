"""A fleet from its file, YAML or Python, with all its errors at once."""

from collections.abc import Mapping
from pathlib import Path

from rackwright.core.repository import RoleSource
from rackwright.fleet import python_fleet, workloads_fleet, yaml_fleet
from rackwright.fleet.json_schema import schema
from rackwright.fleet.roles import Missing, none_missing
from rackwright.fleet.source import parse, read
from rackwright.schema.fleet import Fleet

__all__ = ["load_fleet", "schema"]


def load_fleet(
    path: Path, roles: Mapping[str, RoleSource], missing: Missing = none_missing, text: str | None = None
) -> Fleet:
    """Return the fleet that *path* declares.

    Args:
        roles: Those that its hosts may have, by name.
        missing: Says what is wrong with a reference to a secret.
        text: What will stand in a file of YAML; without it, what stands there.

    Raises:
        DeclarationErrors: everything that is wrong in it, in the order of the lines.
    """
    if path.suffix == ".py":
        return python_fleet.load(path, roles, missing)
    source = read(path) if text is None else parse(path, text)
    if "uses" in source.data:
        return workloads_fleet.load(source, roles, missing, lambda used: load_fleet(used, roles))
    return yaml_fleet.load(source, roles, missing)
