"""Where an audit's facts come from: all hosts at once, or snapshots taken earlier."""

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path

from rackwright.audit.report import Evidence
from rackwright.errors import HostUnreachable, RackwrightError
from rackwright.facts import snapshot
from rackwright.facts.facts import Facts
from rackwright.hosts.pool import Hosts
from rackwright.progress import Progress

AT_ONCE = 64


def from_hosts(hosts: Hosts, names: Iterable[str], progress: Progress) -> Evidence:
    """Probe all hosts in parallel; one that does not answer is evidence too: of not knowing."""

    def look(name: str) -> Facts | RackwrightError:
        try:
            return hosts.facts(name)
        except RackwrightError as error:
            progress(f"{name}: not reached")
            return error

    names = list(names)
    progress(f"probing {len(names)} hosts")
    with ThreadPoolExecutor(AT_ONCE) as pool:
        return dict(zip(names, pool.map(look, names), strict=True))


def from_snapshots(directory: Path, as_of: datetime, names: Iterable[str]) -> Evidence:
    """Take the newest snapshot of each host that is not after *as_of*."""
    found = snapshot.load(directory, as_of)
    missing = "it is audited from a snapshot"
    return {
        name: found.get(name)
        or HostUnreachable(name, f"got no snapshot in {directory}", missing, "Save one with `rackwright audit --save`")
        for name in names
    }
