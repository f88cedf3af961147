"""The pool of downloaded files by content; all fleets share it, and rackwright never changes or removes a file."""

import hashlib
import shutil
import subprocess
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from rackwright.errors import Diagnostic, SetupError
from rackwright.toolchain import cache


def directory() -> Path:
    """Return the directory of the pool."""
    return cache.directory() / "mirror" / "pool"


def package(os: str, digest: str) -> Path:
    """Return the path of the package with *digest*, which may be missing."""
    return directory() / os / f"{digest}.deb"


def wheel(name: str, digest: str) -> Path:
    """Return the path of the wheel *name* with *digest*, which may be missing; pip needs the file's name."""
    return directory() / "wheels" / digest / name


def sha256(path: Path) -> str:
    """Return the SHA-256 digest of the file *path*."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def take(path: Path, target: Path, digest: str) -> None:
    """Move the file *path* to *target* in the pool, after a check that its content has *digest*.

    Raises:
        SetupError: the content has another digest.
    """
    if (actual := sha256(path)) != digest:
        path.unlink()
        problem, expected = f"the file has SHA-256 {actual}", f"{digest}, as in the lock"
        help = "Run the same command again; if the error repeats, check the mirror"
        raise SetupError(Diagnostic(path.name, problem, expected, help))
    target.parent.mkdir(parents=True, exist_ok=True)
    beside = target.with_name(f".{target.name}")
    shutil.move(path, beside)
    beside.rename(target)


def add(paths: Iterable[Path], os: str) -> None:
    """Copy packages that were built on this computer into the pool of *os*; apt finds them there like fetched ones."""
    for path in paths:
        target = package(os, sha256(path))
        if not target.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            beside = target.with_name(f".{target.name}")
            shutil.copyfile(path, beside)
            beside.rename(target)


def stanzas(os: str, digests: Iterator[str] | list[str]) -> list[str]:
    """Return the stanza in a package index for each of the packages in the pool with *digests*."""

    def stanza(digest: str) -> str:
        path = package(os, digest)
        fields = subprocess.run(["dpkg-deb", "--field", str(path)], capture_output=True, text=True, check=True).stdout
        return f"{fields.rstrip()}\nFilename: {path.name}\nSize: {path.stat().st_size}\nSHA256: {digest}\n"

    with ThreadPoolExecutor(4) as threads:
        return list(threads.map(stanza, digests))


def index(os: str) -> str:
    """Return the index of all packages of *os* in the pool, for all locks."""
    return "\n".join(stanzas(os, sorted(path.stem for path in (directory() / os).glob("[!.]*.deb"))))
