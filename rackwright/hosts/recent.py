"""Facts that a preview has just read, for the update that follows it in another process."""

import contextlib
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from rackwright.facts import snapshot
from rackwright.facts.facts import Facts
from rackwright.facts.snapshot import SnapshotError

VARIABLE = "RACKWRIGHT_RECENT_FACTS"
"""The environment variable with the directory, which only its owner can read."""
AGE = timedelta(minutes=1)
"""Age up to which facts are used again. Steps always follow from facts that are read under the lease of the host."""


@dataclass(frozen=True)
class RecentFacts:
    """The facts of hosts in *directory*."""

    directory: Path

    def save(self, host: str, facts: Facts) -> None:
        """Write *facts*, which were read just now; a disk without space keeps none."""
        with contextlib.suppress(SnapshotError):
            snapshot.save(self.directory, host, facts)

    def load(self, host: str) -> Facts | None:
        """Return the facts of *host* that are younger than AGE; None without any."""
        now = datetime.now(UTC)
        try:
            newest = max((self.directory / host).glob("*.json"), default=None)
            if newest is None or not now - AGE < _taken_at(newest) <= now:
                return None
            return snapshot.read(newest)
        except (OSError, ValueError, SnapshotError):
            return None


def _taken_at(path: Path) -> datetime:
    return datetime.strptime(path.name.removesuffix(".json"), snapshot.STAMP).replace(tzinfo=UTC)
