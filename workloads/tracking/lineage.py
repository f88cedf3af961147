"""The lineage of a model version: machines, code, data and parent versions."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from workloads.tracking import provenance, registry
from workloads.tracking.registry import Version
from workloads.tracking.server import TrackingServer


class LineageEntry(Protocol):
    """A model in a lineage: a version of the registry, or a directory."""

    @property
    def tags(self) -> Mapping[str, str]: ...

    @property
    def title(self) -> str:
        """The first line of the entry in a text."""

    @property
    def required_keys(self) -> tuple[str, ...]:
        """Keys of the tags that the entry has to have."""

    def as_data(self) -> dict[str, Any]: ...


@dataclass(frozen=True, slots=True)
class Lineage:
    """A model and its parents, newest first."""

    versions: Sequence[LineageEntry]
    lost_parent: str = ""
    """The next parent, if it was not found, such as ``the version of checkpoint 12ab…``; else empty."""

    @property
    def missing(self) -> tuple[str, ...]:
        """Facts that are unknown, such as ``digits/3: lock``."""
        absent = (
            f"{version}: {key}" for version in self.versions for key in version.required_keys if key not in version.tags
        )
        return (*absent, *([self.lost_parent] if self.lost_parent else []))

    def as_data(self) -> dict[str, Any]:
        """Return the lineage as plain values for JSON."""
        return {
            "versions": [version.as_data() for version in self.versions],
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
    is_whole = last == provenance.NONE or last in registered
    return Lineage(chain, "" if is_whole else f"the version of checkpoint {last}")


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
