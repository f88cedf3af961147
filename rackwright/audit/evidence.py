"""Collect the facts of an audit from all hosts at once, or from earlier snapshots."""

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path

from rackwright.audit.report import Evidence
from rackwright.errors import Diagnostic, HostUnreachable, UserError
from rackwright.facts import snapshot
from rackwright.facts.facts import Facts
from rackwright.hosts.pool import Hosts
from rackwright.progress import Progress

AT_ONCE = 64


def from_hosts(hosts: Hosts, names: Iterable[str], progress: Progress) -> Evidence:
    """Return the facts of all hosts from parallel probes, and the error of each host that does not answer."""

    def probe(name: str) -> Facts | UserError:
        try:
            return hosts.facts(name)
        except UserError as error:
            progress(f"{name}: not reached")
            return error

    names = list(names)
    progress(f"probing {len(names)} hosts")
    with ThreadPoolExecutor(AT_ONCE) as pool:
        return dict(zip(names, pool.map(probe, names), strict=True))


def from_snapshots(directory: Path, as_of: datetime, names: Iterable[str]) -> Evidence:
    """Return the newest snapshot of each host that is not later than *as_of*, or an error if there is none."""
    snapshots = snapshot.load(directory, as_of)
    problem = f"no snapshot of the host in {directory} is old enough"
    help = "Save one with `rackwright audit --save`"
    return {name: snapshots.get(name) or HostUnreachable(Diagnostic(name, problem, help=help)) for name in names}
