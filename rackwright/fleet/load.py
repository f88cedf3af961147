"""The loader of fleets, from YAML or Python, that reports all errors at once."""

from collections.abc import Collection, Mapping
from pathlib import Path

from rackwright.core.repository import RoleSource
from rackwright.fleet import python_fleet, upgrade, workloads_fleet, yaml_fleet
from rackwright.fleet.json_schema import schema
from rackwright.fleet.roles import SecretCheck, accept_all_secrets
from rackwright.fleet.source import parse, read
from rackwright.fleet.text_files import with_text_files
from rackwright.schema.fleet import Fleet

__all__ = ["load_fleet", "schema"]


def load_fleet(
    path: Path,
    roles: Mapping[str, RoleSource],
    check_secret: SecretCheck = accept_all_secrets,
    text: str | None = None,
    without: Collection[str] = (),
) -> Fleet:
    """Return the fleet that the file *path* declares.

    Args:
        roles: The roles that the hosts may have, by name.
        check_secret: Returns the problem of a reference to a secret.
        text: Future content of a YAML file; without it, the file's present content.
        without: Hosts that a twin leaves out, which become retired ones.

    Raises:
        DeclarationError: all errors of the file, in the order of its lines.
    """
    if path.suffix == ".py":
        return python_fleet.load(path, roles, check_secret, without)
    source = read(path) if text is None else parse(path, text)
    upgrade.check(source)
    if "uses" in source.data:
        return workloads_fleet.load(
            source, roles, check_secret, lambda used: load_fleet(used, roles, without=without), without
        )
    return yaml_fleet.load(with_text_files(source), roles, check_secret, without)
