"""The audit command."""

import json
from datetime import UTC, datetime
from pathlib import Path

from rackwright import terminal
from rackwright.audit import evidence, report, table
from rackwright.audit.digests import load
from rackwright.cli import project
from rackwright.errors import SetupError
from rackwright.facts import snapshot as snapshots
from rackwright.facts.facts import Facts
from rackwright.stack import Stack
from rackwright.status import registered


def run(
    stack: Stack,
    form: str,
    save: Path | None,
    snapshot: Path | None,
    as_of: datetime | None,
    declared: Path | None,
    tracking: str,
) -> int:
    """Print the audit of *stack*, and return its exit status."""
    told = load(declared, stack) if declared else None
    if told is None:
        try:
            stack = project.secrets(stack)
        except SetupError as error:
            project.say(f"what depends on a secret is unknown, and --digests would tell it: {error}")
    names = [name for name in stack.fleet.hosts if name not in stack.maintenance]
    if snapshot is not None:
        found = evidence.from_snapshots(snapshot, as_of.replace(tzinfo=UTC) if as_of else datetime.now(UTC), names)
    else:
        from rackwright.hosts.pool import Hosts

        hosts = Hosts(stack.endpoints, stack.salt)
        found = evidence.from_hosts(hosts, names, project.say)
        hosts.close()
    if save is not None:
        for name, facts in found.items():
            if isinstance(facts, Facts):
                snapshots.save(save, name, facts)
        project.say(f"facts saved in {save}")
    lookup = (tracking,) if snapshot is None else ("", "--snapshot asks no server")
    resolved_names = registered.resolve_names(stack, *lookup)
    compared = report.compare(stack, found, told, dict(registered.notices(resolved_names, stack)))
    if form == "json":
        terminal.show(json.dumps(report.as_json(compared), indent=2))
    else:
        table.show(compared, terminal.console())
    return compared.exit_status
