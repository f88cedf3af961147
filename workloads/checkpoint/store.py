"""Stores for copies of checkpoints: the protocol, and a directory on another tier."""

from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

from workloads.checkpoint import disk
from workloads.files import fsync_directory
from workloads.foreign import open_regular


class Store(Protocol):
    """Objects by key, such as ``step-0000000200/manifest.json``. An object store can implement this protocol.

    Each method raises FileNotFoundError for a missing object, and OSError for any other failure.
    """

    def put(self, key: str, source: Path) -> str:
        """Store the file *source*, replacing an existing object atomically, and return its sha256."""
        ...

    def get(self, key: str, target: Path) -> str:
        """Write the object to the new file *target*, and return the sha256 of the received content."""
        ...

    def digest(self, key: str) -> str:
        """Return the sha256 of the object, read from the medium and not from a cache."""
        ...

    def list(self, prefix: str = "") -> Iterator[str]:
        """Yield the keys that begin with *prefix*."""
        ...

    def delete(self, key: str) -> None:
        """Remove the object. A missing object is not an error."""
        ...


class DirectoryStore:
    """A directory as a store. A checkpoint without a manifest is incomplete."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def put(self, key: str, source: Path) -> str:
        target = self.root / key
        target.parent.mkdir(parents=True, exist_ok=True)
        new_file = target.with_name(f".{target.name}.new")
        new_file.unlink(missing_ok=True)  # left by a killed process
        try:
            with open_regular(source, follow=True) as file:
                digest = disk.copy(file, new_file)
            new_file.rename(target)
        except OSError:
            new_file.unlink(missing_ok=True)
            raise
        fsync_directory(target.parent)
        fsync_directory(self.root)
        return digest

    def get(self, key: str, target: Path) -> str:
        with open_regular(self.root / key, follow=True) as file:
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
