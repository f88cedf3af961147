"""The generated pages, by the names of their files."""

from collections.abc import Callable, Mapping
from functools import partial

from tests.reference import (
    alerts,
    catalogue,
    cis_kubernetes,
    claims,
    cli,
    exit_statuses,
    facts,
    fleet,
    json_outputs,
    layouts,
    roles,
    rules,
    settings,
    variables,
    vllm_options,
    volatile_facts,
)
from tests.support.log import ROOT
from tests.support.our_roles import ROLES

FOLDER = ROOT / "docs" / "reference"
EXAMPLES = ROOT / "rackwright" / "cli" / "command_examples.txt"
"""The generated examples of the help texts."""
PAGES: Mapping[str, Callable[[], str]] = {
    "cli.md": cli.render,
    "fleet.md": fleet.render,
    "settings.md": settings.render,
    "roles.md": roles.render,
    "catalogue.md": catalogue.render,
    "facts.md": facts.render,
    "variables.md": variables.render,
    "vllm-options.md": vllm_options.render,
    "volatile-facts.md": volatile_facts.render,
    "claims.md": claims.render,
    "rules.md": rules.render,
    "alerts.md": alerts.render,
    "cis-kubernetes.md": cis_kubernetes.render,
    "exit-statuses.md": exit_statuses.render,
    "json.md": json_outputs.render,
    "layouts.md": layouts.render,
    **{f"roles/{name}.md": partial(roles.render_role, name) for name in ROLES},
}
