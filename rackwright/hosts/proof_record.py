"""The hosts that have proved their identity: facts of such a host without a proof are refused from then on."""

import contextlib
import hashlib
from pathlib import Path

from rackwright.hosts.pins import pinned_keys
from rackwright.schema.ssh import Endpoint

FOLDER = ".rackwright/proofs"
"""The directory of the record in a project, with a file for each host that is named by its pinned keys."""


class ProofRecord:
    """A directory with the time of each host's first proof. A host with other keys is another host."""

    def __init__(self, project: Path) -> None:
        self._folder = project / FOLDER

    def path(self, endpoint: Endpoint) -> Path:
        """Return the file of the host."""
        keys = b"\0".join(sorted(pinned_keys(endpoint).values()))
        return self._folder / hashlib.sha256(keys).hexdigest()[:32]

    def since(self, endpoint: Endpoint) -> float | None:
        """Return the time of the host's first proof in seconds since 1970, or None for no proof until now."""
        try:
            return self.path(endpoint).stat().st_mtime
        except OSError:
            return None

    def add(self, endpoint: Endpoint) -> None:
        """Note that the host gave a proof. A project that cannot be written keeps no record."""
        path = self.path(endpoint)
        with contextlib.suppress(OSError):
            if not path.exists():
                self._folder.mkdir(parents=True, exist_ok=True)
                path.write_text(f"{endpoint.host}\n")
