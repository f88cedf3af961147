"""What is kept: files by their content, shared by all fleets, and never changed or taken away."""

import hashlib
import shutil
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from rackwright.errors import SetupError
from rackwright.toolchain import cache


def directory() -> Path:
    return cache.directory() / "mirror" / "pool"


def package(os: str, digest: str) -> Path:
    """Return where the package with *digest* is, or would be."""
    return directory() / os / f"{digest}.deb"


def wheel(name: str, digest: str) -> Path:
    """Return where the wheel *name* with *digest* is, or would be: pip goes by names."""
    return directory() / "wheels" / digest / name


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def take(path: Path, target: Path, digest: str) -> None:
    """Move the file *path* to its place *target*, where no other content than that of *digest* ever stands.

    Raises:
        SetupError: it has another.
    """
    if (found := sha256(path)) != digest:
        path.unlink()
        got, want = f"got a file with SHA-256 {found}", f"the lock has {digest}"
        raise SetupError(path.name, got, want, "Run the same command again; should it stay so, look at the mirror")
    target.parent.mkdir(parents=True, exist_ok=True)
    beside = target.with_name(f".{target.name}")
    shutil.move(path, beside)
    beside.rename(target)


def stanzas(os: str, digests: Iterator[str] | list[str]) -> list[str]:
    """Return a paragraph of a package index for each of the packages with *digests*, which are in the pool."""

    def stanza(digest: str) -> str:
        path = package(os, digest)
        told = subprocess.run(["dpkg-deb", "--field", str(path)], capture_output=True, text=True, check=True).stdout
        return f"{told.rstrip()}\nFilename: {path.name}\nSize: {path.stat().st_size}\nSHA256: {digest}\n"

    with ThreadPoolExecutor(4) as threads:
        return list(threads.map(stanza, digests))


def index(os: str) -> str:
    """Return the index of all packages of *os* that are here, of whatever lock."""
    return "\n".join(stanzas(os, sorted(path.stem for path in (directory() / os).glob("[!.]*.deb"))))
