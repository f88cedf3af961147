"""The audit command."""

from datetime import UTC, datetime
from pathlib import Path

from rackwright import terminal
from rackwright.audit import evidence, report, table
from rackwright.audit.digests import load
from rackwright.cli import project, recording
from rackwright.errors import SetupError
from rackwright.facts import snapshot as snapshots
from rackwright.facts.facts import Facts
from rackwright.stack import Stack
from rackwright.status import registered


def run(
    stack: Stack,
    as_json: bool,
    save: Path | None,
    snapshot: Path | None,
    as_of: datetime | None,
    declared: Path | None,
    tracking: str,
) -> int:
    """Print the audit of *stack*, and return its exit status."""
    secret_digests = load(declared, stack) if declared else None
    if secret_digests is None:
        try:
            stack = project.secrets(stack)
        except SetupError as error:
            project.notify(
                f"values that depend on a secret are unknown; --digests FILE supplies their digests: {error}"
            )
    names = [name for name in stack.fleet.hosts if name not in stack.maintenance]
    if snapshot is not None:
        facts_by_host = evidence.from_snapshots(
            snapshot, as_of.replace(tzinfo=UTC) if as_of else datetime.now(UTC), names
        )
    else:
        from rackwright.hosts.pool import Hosts

        hosts = Hosts(stack.endpoints, stack.salt)
        facts_by_host = evidence.from_hosts(hosts, names, project.notify)
        hosts.close()
    if save is not None:
        for name, facts in facts_by_host.items():
            if isinstance(facts, Facts):
                snapshots.save(save, name, facts)
        project.notify(f"facts saved in {save}")
    lookup = (tracking,) if snapshot is None else ("", "--snapshot asks no server")
    resolved_names = registered.resolve_names(stack, *lookup)
    compared = report.compare(stack, facts_by_host, secret_digests, dict(registered.notices(resolved_names, stack)))
    recording.note("audit", stack, names, compared.exit_status)
    if as_json:
        terminal.show_json(report.as_json(compared))
    else:
        table.show(compared, terminal.console())
    return compared.exit_status
