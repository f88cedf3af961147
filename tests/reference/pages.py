"""The generated pages, by the names of their files."""

from collections.abc import Callable, Mapping

from tests.reference import catalogue, claims, cli, exit_statuses, facts, fleet, roles
from tests.support.log import ROOT

FOLDER = ROOT / "docs" / "reference"
PAGES: Mapping[str, Callable[[], str]] = {
    "cli.md": cli.render,
    "fleet.md": fleet.render,
    "roles.md": roles.render,
    "catalogue.md": catalogue.render,
    "facts.md": facts.render,
    "claims.md": claims.render,
    "exit-statuses.md": exit_statuses.render,
}
