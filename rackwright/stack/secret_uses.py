"""The secrets that the fleet of a stack names, before they have values."""

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from rackwright import locations
from rackwright.core.repository import Roles
from rackwright.errors import DeclarationError
from rackwright.fleet.load import load_fleet
from rackwright.fleet.roles import SecretCheck
from rackwright.locations import relative_path
from rackwright.schema import secret
from rackwright.stack.settings import settings


@dataclass(frozen=True)
class SecretUse:
    """The requirements of all references to one secret."""

    shortest: int
    """Minimum length."""
    form: secret.Form | None
    """The form of the value, which a person has; None for any text, which may be random."""


def secret_uses(name: str, project: Path) -> dict[str, SecretUse]:
    """Return all secrets in the fleet of stack *name*, by name.

    Raises:
        DeclarationError: The fleet has errors.
    """
    found: dict[str, SecretUse] = {}
    load_fleet(_fleet_file(name, project), Roles(locations.repository()), _collector(found))
    return found


def secret_form(name: str, project: Path, reference: str) -> secret.Form | None:
    """Return the form of the secret *reference* in the fleet of stack *name*; None for any text.

    A fleet with errors, whose own check reports them, may not show it: the values are checked again before each use.
    """
    found: dict[str, SecretUse] = {}
    with contextlib.suppress(DeclarationError):
        load_fleet(_fleet_file(name, project), Roles(locations.repository()), _collector(found))
    return found[reference].form if reference in found else None


def _fleet_file(name: str, project: Path) -> Path:
    return relative_path(project.resolve() / "stacks" / settings(name, project)["fleet"])


def _collector(found: dict[str, SecretUse]) -> SecretCheck:
    """Return a check that adds each secret to *found*, and refuses none."""

    def collect(name: str, shortest: int, form: secret.Form | None = None) -> None:
        use = SecretUse(shortest, form)
        found[name] = _both(found[name], use) if name in found else use

    return collect


def _both(one: SecretUse, other: SecretUse) -> SecretUse:
    """Return the requirements of both uses.

    A value that a service of the same fleet takes may be random, though another use of it takes it as issued.
    """
    forms = [one.form, other.form]
    parsed = next((form for form in forms if form and form.is_parsed), None)
    issued = None if None in forms else one.form
    return SecretUse(max(one.shortest, other.shortest), parsed or issued)


def missing_uses(uses: Mapping[str, SecretUse], known: Mapping[str, object], virtual: bool) -> dict[str, SecretUse]:
    """Return those of *uses* without a value among *known*; a virtual rack derives values that no program parses."""
    return {
        name: use
        for name, use in uses.items()
        if name not in known and not (virtual and not (use.form and use.form.is_parsed))
    }
