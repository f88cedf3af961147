"""The local repository of a fleet: a tree for any web server, with dists/ for apt and simple/ for pip.

The tree lists the files of the lock and no others. The files themselves are in the pool.
"""

import gzip
import hashlib
import shutil
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from html import escape
from pathlib import Path

from rackwright.files import copy_atomic, write_atomic
from rackwright.fleet.lockfile import Lock
from rackwright.fleet.lockfile import suite as suite_name
from rackwright.lock import key, store
from rackwright.lock.wheels import project
from rackwright.stack.lock_check import ARCHITECTURE

NOTE = "lock.sha256"
"""Name of the file with the digest of the lock of a tree."""


def write(lock: Lock, directory: Path, key_file: Path) -> None:
    """Write the tree of *lock* into *directory*; all its packages and wheels must be in the pool."""
    if find_missing(lock, directory) is None:
        return
    directory.mkdir(parents=True, exist_ok=True)
    if not (directory / "pool").is_symlink():
        (directory / "pool").symlink_to(store.directory())
    suites = {_suite(system): (system.partition("/")[0], packages) for system, packages in lock.packages.items()}
    for name, (os_name, packages) in sorted(suites.items()):
        _write_suite(directory, name, os_name, list(packages.values()), key_file)
    for path in (directory / "dists").glob("*"):
        if path.name not in suites:  # of an earlier lock, whose hosts may have had another vendor
            shutil.rmtree(path)
    _write_simple(directory / "simple", lock.wheels)
    _put(directory / NOTE, f"{lock.digest}\n".encode())


def find_missing(lock: Lock, directory: Path) -> str | None:
    """Return in words which part of *lock* is missing in the tree in *directory*; None if the tree is complete."""
    try:
        digest = (directory / NOTE).read_text().strip()
    except FileNotFoundError:
        return "it does not exist"
    if digest != lock.digest:
        return "it belongs to another lock"
    missing = [path for path in _pool_files(lock) if not path.exists()]
    return f"{len(missing)} of its files are missing, such as {missing[0]}" if missing else None


def find_damaged(lock: Lock) -> str | None:
    """Return in words which file of *lock* in the pool has another content than locked; None if all are as locked."""
    packages = {digest for digests in lock.packages.values() for digest in digests.values()}
    for path in _pool_files(lock):
        digest = path.stem if path.stem in packages else path.parent.name
        if path.exists() and store.sha256(path) != digest:
            return f"{path} has another content than the SHA-256 in its path"
    return None


def copy(lock: Lock, directory: Path, target: Path) -> None:
    """Copy the tree in *directory*, with its files, to *target*. Other files there stay: older locks need them."""
    for path in _pool_files(lock):
        place = target / "pool" / path.relative_to(store.directory())
        if not place.exists():
            copy_atomic(path, place)
    files = [path for folder in ("dists", "simple") for path in (directory / folder).rglob("*") if path.is_file()]
    for path in sorted(files, key=lambda path: path.name == "InRelease"):  # last: it signs the others
        _put(target / path.relative_to(directory), path.read_bytes())


def _pool_files(lock: Lock) -> Iterator[Path]:
    for system, packages in lock.packages.items():
        for digest in packages.values():
            yield store.package(system.partition("/")[0], digest)
    for name, digest in lock.wheels.items():
        yield store.wheel(name, digest)


def _suite(system: str) -> str:
    """Return the suite of a system of a lock, such as ``debian-12/amd64``, or ``debian-12/amd64/SET`` with vendors."""
    os_name, _, rest = system.partition("/")
    return suite_name(os_name, rest.partition("/")[2])


def _write_suite(directory: Path, name: str, os_name: str, digests: list[str], key_file: Path) -> None:
    """Write and sign the index of the packages with *digests*."""
    suite, binary = directory / "dists" / name, f"main/binary-{ARCHITECTURE}"
    stanzas = store.stanzas(os_name, sorted(digests))
    packages = "\n".join(text.replace("\nFilename: ", f"\nFilename: pool/{os_name}/") for text in stanzas).encode()
    files = {f"{binary}/Packages": packages, f"{binary}/Packages.gz": gzip.compress(packages, mtime=0)}
    checksums = [f" {hashlib.sha256(text).hexdigest()} {len(text)} {path}" for path, text in files.items()]
    fields = {
        "Origin": "rackwright",
        "Suite": name,
        "Codename": name,
        "Date": datetime.now(UTC).strftime("%a, %d %b %Y %H:%M:%S UTC"),
        "Architectures": ARCHITECTURE,
        "Components": "main",
        "SHA256": "\n" + "\n".join(checksums),
    }
    for path, text in files.items():
        _put(suite / path, text)
    release = "".join(f"{field}: {value}\n".replace(": \n", ":\n", 1) for field, value in fields.items())
    _put(suite / "InRelease", key.sign(release, key_file).encode())


def _write_simple(directory: Path, wheels: Mapping[str, str]) -> None:
    """Write a simple repository: a page for each project, with a link to each of its files. Source: PEP 503."""
    shutil.rmtree(directory, ignore_errors=True)
    projects: dict[str, list[str]] = {}
    for name, digest in sorted(wheels.items()):
        link = f"../../pool/wheels/{digest}/{name}#sha256={digest}"
        projects.setdefault(project(name), []).append(f'<a href="{escape(link)}">{escape(name)}</a><br>')
    for name, links in projects.items():
        _put(directory / name / "index.html", _page(links))
    _put(directory / "index.html", _page([f'<a href="{name}/">{name}</a><br>' for name in projects]))


def _page(lines: list[str]) -> bytes:
    return "\n".join(["<!DOCTYPE html>", "<html><body>", *lines, "</body></html>", ""]).encode()


def _put(path: Path, content: bytes) -> None:
    write_atomic(path, content)
