"""The state of what a stack is for, from the facts of an audit: its tiers, GPUs, runs and servers."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rackwright.audit.report import Evidence
from rackwright.errors import Diagnostic, HostUnreachable
from rackwright.facts.facts import Facts
from rackwright.kinds.tier import TierKind
from rackwright.stack import DeclaredResource, Stack
from rackwright.status import gpus, runs, servers
from rackwright.status.gpus import GpuReport
from rackwright.status.runs import RunReport
from rackwright.status.servers import ServerReport


@dataclass(frozen=True)
class TierRow:
    """The state of one tier."""

    name: str
    """`HOST/TIER`."""
    report: Mapping[str, Any]
    """The report of the kind: state, progress of a sync, and spares; empty without an array; or why it is unknown."""

    @property
    def state(self) -> str:
        """The state in words: `optimal`, `rebuilding`, `scrubbing`, `absent`, `unknown`, …; see `Array.condition`."""
        return "unknown" if "unknown" in self.report else str(self.report.get("state", "absent"))

    @property
    def details(self) -> str:
        """The progress of a sync and the waiting spares, or the reason why the state is unknown."""
        if "unknown" in self.report:
            return str(self.report["unknown"])
        spares = self.report.get("spares", ())
        parts = [self.report.get("progress"), f"spares: {', '.join(spares)}" if spares else None]
        return "; ".join(str(part) for part in parts if part)


@dataclass(frozen=True)
class Overview:
    """The state of a stack's tiers, GPUs, runs and servers at one time."""

    tiers: tuple[TierRow, ...]
    gpus: GpuReport
    runs: tuple[RunReport, ...]
    servers: tuple[ServerReport, ...]


def observe(stack: Stack, resources: tuple[DeclaredResource, ...], evidence: Evidence) -> Overview:
    """Return the state of all that *resources* declare, by the facts in *evidence*, without another look at a host."""

    def read(source: str) -> Facts:
        facts = evidence.get(source)
        if facts is None:
            problem = stack.maintenance.get(source, "not looked at")
            raise HostUnreachable(Diagnostic(source, problem, help="Look again when it is over"))
        if not isinstance(facts, Facts):
            raise facts
        return facts

    of_gpus = {host: evidence[host] for host in gpus.hosts_with_gpus(stack) if host in evidence}
    return Overview(
        tuple(_tier(each, read) for each in resources if each.token == TierKind.token),
        gpus.build_report(stack, of_gpus),
        tuple(
            runs.read_run(name, [each for each in resources if runs.run_of(each) == name], read)
            for name in stack.fleet.runs
        ),
        tuple(servers.read_server(name, servers.specs_in(resources, name), read) for name in stack.fleet.servers),
    )


def _tier(declared: DeclaredResource, read: runs.Read) -> TierRow:
    try:
        return TierRow(declared.name, declared.kind.report(declared.spec, read(declared.source)))
    except HostUnreachable as error:
        return TierRow(declared.name, {"unknown": f"not reached: {error.diagnostic.problem}"})
