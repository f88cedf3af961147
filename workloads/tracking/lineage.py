"""The lineage of a model version: machines, code, data and parent versions."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from workloads.tracking import provenance, registry
from workloads.tracking.registry import Version
from workloads.tracking.server import TrackingServer


@dataclass(frozen=True, slots=True)
class Lineage:
    """A version and its parents, newest first."""

    versions: tuple[Version, ...]
    unregistered_parent: str = ""
    """Digest of the next parent checkpoint, if it is not registered; empty if the chain is complete."""

    @property
    def missing(self) -> tuple[str, ...]:
        """Facts that are unknown, such as ``digits/3: lock``."""
        absent = (
            f"{version}: {key}"
            for version in self.versions
            for key in provenance.required_keys(version.tags)
            if key not in version.tags
        )
        parent = [f"the version of checkpoint {self.unregistered_parent}"] if self.unregistered_parent else []
        return (*absent, *parent)

    def as_data(self) -> dict[str, Any]:
        """Return the lineage as plain values for JSON."""
        return {
            "versions": [
                {
                    "name": version.name,
                    "version": version.version,
                    "aliases": list(version.aliases),
                    "run": version.run,
                    "source": version.source,
                    "created_ms": version.created_ms,
                    **{
                        key: version.tags.get(key)
                        for key in (*provenance.required_keys(version.tags), registry.CHECKPOINT, "step")
                    },
                }
                for version in self.versions
            ],
            "missing": list(self.missing),
        }


def load_lineage(server: TrackingServer, reference: str) -> Lineage:
    """Return the lineage of the version that *reference* names, back to the first parent.

    Raises:
        UserError: There is no such version, or the server does not respond.
    """
    chain = list(_chain(server, registry.find(server, reference)))
    last = chain[-1].tags.get("parent", provenance.NONE)
    registered = {version.tags.get(registry.CHECKPOINT) for version in chain}
    return Lineage(tuple(chain), "" if last == provenance.NONE or last in registered else last)


def _chain(server: TrackingServer, version: Version | None) -> Iterator[Version]:
    """Yield *version* and its parents, and stop at a version that is its own ancestor."""
    seen: set[str] = set()
    while version is not None and str(version) not in seen:
        yield version
        seen.add(str(version))
        parent = version.tags.get("parent", provenance.NONE)
        name = version.tags.get(registry.PARENT_VERSION, str(version)).rpartition("/")[0]
        version = None if parent == provenance.NONE else _find_parent(server, parent, name)


def _find_parent(server: TrackingServer, digest: str, name: str) -> Version | None:
    """Return the version of the checkpoint with *digest*, preferably of the model *name*."""
    return registry.find_by_checkpoint(server, digest, name) or registry.find_by_checkpoint(server, digest)
