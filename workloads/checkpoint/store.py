"""Where copies of checkpoints are kept: a directory on another tier, or whatever else speaks this protocol."""

from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

from workloads.checkpoint import disk


class Store(Protocol):
    """Objects by their keys: ``step-0000000200/manifest.json``. The seam for object stores.

    Every method raises OSError where the store cannot do it, FileNotFoundError where it has no such object.
    """

    def put(self, key: str, source: Path) -> str:
        """Store the file *source*, in the place of whatever was there, whole or not at all; return its sha256."""
        ...

    def get(self, key: str, target: Path) -> str:
        """Write the object to the new file *target*, and return the sha256 of what came."""
        ...

    def digest(self, key: str) -> str:
        """Return the sha256 of what the store gives back now: read from its medium, not remembered."""
        ...

    def list(self, prefix: str = "") -> Iterator[str]:
        """Yield the keys that begin with *prefix*."""
        ...

    def delete(self, key: str) -> None:
        """Remove the object. One that is gone already is no error."""
        ...


class DirectoryStore:
    """A directory as a store: of its checkpoints, the one without a manifest is not complete yet."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def put(self, key: str, source: Path) -> str:
        target = self.root / key
        target.parent.mkdir(parents=True, exist_ok=True)
        beside = target.with_name(f".{target.name}.new")
        beside.unlink(missing_ok=True)  # left behind by one that was killed
        try:
            with source.open("rb") as file:
                digest = disk.copy(file, beside)
            beside.rename(target)
        except OSError:
            beside.unlink(missing_ok=True)
            raise
        disk.fsync_directory(target.parent)
        disk.fsync_directory(self.root)
        return digest

    def get(self, key: str, target: Path) -> str:
        with (self.root / key).open("rb") as file:
            return disk.copy(file, target)

    def digest(self, key: str) -> str:
        return disk.sha256(self.root / key, from_drive=True)

    def list(self, prefix: str = "") -> Iterator[str]:
        for path in sorted(self.root.rglob("*")) if self.root.is_dir() else ():
            key = path.relative_to(self.root).as_posix()
            if key.startswith(prefix) and path.is_file() and not path.name.startswith("."):
                yield key

    def delete(self, key: str) -> None:
        (self.root / key).unlink(missing_ok=True)
