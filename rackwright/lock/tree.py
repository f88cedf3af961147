"""The local repository of a fleet as a tree that any web server can serve: for apt below dists/, for pip simple/.

It holds what the lock names and nothing else. The files themselves lie in the pool, by their content.
"""

import gzip
import hashlib
import os
import shutil
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from html import escape
from pathlib import Path

from rackwright.fleet.lockfile import Lock
from rackwright.lock import key, store
from rackwright.lock.wheels import project
from rackwright.stack.lock_check import ARCHITECTURE

NOTE = "lock.sha256"
"""Which lock a tree was made for."""


def write(lock: Lock, directory: Path, key_file: Path) -> None:
    """Make the tree in *directory* that of *lock*, whose packages and wheels are all in the pool."""
    if lacking(lock, directory) is None:
        return
    directory.mkdir(parents=True, exist_ok=True)
    if not (directory / "pool").is_symlink():
        (directory / "pool").symlink_to(store.directory())
    for system, packages in sorted(lock.packages.items()):
        os_name = system.partition("/")[0]
        _write_suite(directory, os_name, list(packages.values()), key_file)
    _write_simple(directory / "simple", lock.wheels)
    _put(directory / NOTE, f"{lock.digest}\n".encode())


def lacking(lock: Lock, directory: Path) -> str | None:
    """Return what the tree in *directory* lacks of *lock*; None where it has all."""
    try:
        made_for = (directory / NOTE).read_text().strip()
    except FileNotFoundError:
        return "there is none"
    if made_for != lock.digest:
        return "it was made for another lock"
    gone = [path for path in _kept(lock) if not path.exists()]
    return f"{len(gone)} of its files are gone, {gone[0]} among them" if gone else None


def copy(lock: Lock, directory: Path, target: Path) -> None:
    """Put the tree in *directory*, with its files, to *target*. What else is there stays: older locks want it."""
    for path in _kept(lock):
        place = target / "pool" / path.relative_to(store.directory())
        if not place.exists():
            place.parent.mkdir(parents=True, exist_ok=True)
            beside = place.with_name(f".{place.name}")
            shutil.copyfile(path, beside)
            beside.rename(place)
    files = [path for folder in ("dists", "simple") for path in (directory / folder).rglob("*") if path.is_file()]
    for path in sorted(files, key=lambda path: path.name == "InRelease"):  # last: it vouches for the others
        _put(target / path.relative_to(directory), path.read_bytes())


def _kept(lock: Lock) -> Iterator[Path]:
    for system, packages in lock.packages.items():
        for digest in packages.values():
            yield store.package(system.partition("/")[0], digest)
    for name, digest in lock.wheels.items():
        yield store.wheel(name, digest)


def _write_suite(directory: Path, os_name: str, digests: list[str], key_file: Path) -> None:
    """Write the index of the packages with *digests*, and sign it."""
    suite, binary = directory / "dists" / os_name, f"main/binary-{ARCHITECTURE}"
    found = store.stanzas(os_name, sorted(digests))
    packages = "\n".join(text.replace("\nFilename: ", f"\nFilename: pool/{os_name}/") for text in found).encode()
    files = {f"{binary}/Packages": packages, f"{binary}/Packages.gz": gzip.compress(packages, mtime=0)}
    listed = [f" {hashlib.sha256(text).hexdigest()} {len(text)} {name}" for name, text in files.items()]
    fields = {
        "Origin": "rackwright",
        "Suite": os_name,
        "Codename": os_name,
        "Date": datetime.now(UTC).strftime("%a, %d %b %Y %H:%M:%S UTC"),
        "Architectures": ARCHITECTURE,
        "Components": "main",
        "SHA256": "\n" + "\n".join(listed),
    }
    for name, text in files.items():
        _put(suite / name, text)
    told = "".join(f"{name}: {value}\n".replace(": \n", ":\n", 1) for name, value in fields.items())
    _put(suite / "InRelease", key.signed(told, key_file).encode())


def _write_simple(directory: Path, wheels: Mapping[str, str]) -> None:
    """Write what PEP 503 calls a simple repository: a page for each project, with a link to each of its files."""
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
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    beside.write_bytes(content)
    beside.replace(path)
