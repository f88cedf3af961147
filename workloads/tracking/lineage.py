"""Where a version of a model comes from: machines, code, data, and the versions before it, as far as is known."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from workloads.tracking import provenance, registry
from workloads.tracking.registry import Version
from workloads.tracking.server import Server


@dataclass(frozen=True, slots=True)
class Lineage:
    """A version and its parents, the youngest first."""

    versions: tuple[Version, ...]
    lost: str = ""
    """The checkpoint with which the chain goes on and that no version has; empty where it is whole."""

    @property
    def missing(self) -> tuple[str, ...]:
        """What is not known, as ``digits/3: lock``."""
        unsaid = (
            f"{version}: {key}"
            for version in self.versions
            for key in provenance.keys(version.tags)
            if key not in version.tags
        )
        return (*unsaid, *([f"the version of checkpoint {self.lost}"] if self.lost else []))

    def as_data(self) -> dict[str, Any]:
        """Return it for machines."""
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
                        for key in (*provenance.keys(version.tags), registry.CHECKPOINT, "step")
                    },
                }
                for version in self.versions
            ],
            "missing": list(self.missing),
        }


def lineage(server: Server, reference: str) -> Lineage:
    """Return what made the version that *reference* names, back to the first parent.

    Raises:
        WorkloadError: there is no such version, or the server does not answer.
    """
    chain = list(_chain(server, registry.find(server, reference)))
    last = chain[-1].tags.get("parent", provenance.NONE)
    known = {version.tags.get(registry.CHECKPOINT) for version in chain}
    return Lineage(tuple(chain), "" if last == provenance.NONE or last in known else last)


def _chain(server: Server, version: Version | None) -> Iterator[Version]:
    """Yield *version* and its parents; one that is its own ancestor ends it, too."""
    seen: set[str] = set()
    while version is not None and str(version) not in seen:
        yield version
        seen.add(str(version))
        parent = version.tags.get("parent", provenance.NONE)
        name = version.tags.get(registry.PARENT_VERSION, str(version)).rpartition("/")[0]
        version = None if parent == provenance.NONE else _of_checkpoint(server, parent, name)


def _of_checkpoint(server: Server, digest: str, name: str) -> Version | None:
    """Return the version of that checkpoint: of several names that one is registered under, *name*."""
    return registry.with_checkpoint(server, digest, name) or registry.with_checkpoint(server, digest)
