"""The lock file of a fleet: the exact versions and hashes of everything that its hosts install, without addresses."""

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import Field, ValidationError

from rackwright import locations
from rackwright.errors import DeclarationError, Diagnostic, command
from rackwright.fleet.problems import problems_of
from rackwright.fleet.source import read
from rackwright.schema.base import SEVERAL_LINES, Schema

HEAD = "# Written by `rackwright lock`. Hashes are SHA-256.\n"
CATALOGUE = "rackwright/schema/catalogue"
FOLDERS = ("playbooks", CATALOGUE, "roles", "templates")
"""Folders of the repository whose content reaches hosts."""
IGNORED_SUFFIXES = (".md", ".pyc")


class Lock(Schema):
    """A set of versions that existed and fitted together when `rackwright lock` wrote it."""

    fleet: str
    rackwright: str
    """Version of rackwright that wrote the file."""
    repository: str
    """Digest of all roles, templates, playbooks and the catalogue."""
    roles: dict[str, str]
    """Digest of each role that the fleet plays, with its templates."""
    key: Annotated[str, SEVERAL_LINES] | None = None
    """Public key of OpenPGP, in armour, that signs the local repository. None before the first `--fetch`."""
    vendor_keys: Annotated[dict[str, str], SEVERAL_LINES] | None = None
    """Public keys of OpenPGP, in armour, of vendors whose packages hosts install, by fingerprint."""
    vendors: dict[str, str] | None = None
    """Name of the set of vendors' repositories, for each host whose roles declare some. None in a lock of an earlier
    rackwright, which has the packages of all hosts of a system together."""
    packages: dict[str, dict[str, str]] = Field(default_factory=dict)
    """Digest of each package's file, by system and architecture (``debian-12/amd64``), with the set of vendors for
    hosts that have one (``debian-12/amd64/SET``), and by ``name=version``."""
    images: dict[str, str] = Field(default_factory=dict)
    """Digests of container images, by the names that roles use."""
    wheels: dict[str, str] = Field(default_factory=dict)
    """Digests of the files that roles install for Python, mostly wheels, by file name."""

    @property
    def text(self) -> str:
        """The content of the lock file."""
        data = _sort({name: value for name in Lock.model_fields if (value := getattr(self, name)) is not None})
        return HEAD + yaml.dump(data, Dumper=_Dumper, sort_keys=False, width=1 << 20)

    def suite(self, host: str, os: str) -> str:
        """Return the suite of the local repository with the packages of *host*."""
        return suite(os, (self.vendors or {}).get(host, ""))

    @property
    def digest(self) -> str:
        """SHA-256 of the file, which identifies this set of versions."""
        return hashlib.sha256(self.text.encode()).hexdigest()


def suite(os: str, vendors: str) -> str:
    """Return the name of a suite of the local repository; hosts with different vendors share none."""
    return f"{os}-{vendors}" if vendors else os


def _sort(fields: dict[str, Any]) -> dict[str, Any]:
    """Return *fields* in their order, with all mappings below them sorted by key."""
    return {
        name: _sort(dict(sorted(value.items()))) if isinstance(value, dict) else value for name, value in fields.items()
    }


class _Dumper(yaml.SafeDumper):
    pass


_Dumper.add_representer(
    str,
    lambda dumper, value: dumper.represent_scalar("tag:yaml.org,2002:str", value, style="|" if "\n" in value else None),
)


def lock_path(fleet: Path) -> Path:
    """Return the path of the lock of the fleet in the file *fleet*."""
    return fleet.with_suffix(".lock.yaml")


def load_lock(path: Path) -> Lock | None:
    """Return the lock in the file *path*; None if there is no file.

    Raises:
        DeclarationError: the file is empty or damaged.
    """
    if not path.exists():
        return None
    if not path.stat().st_size:
        problem, expected = "the lock is empty", "a lock lists versions and hashes"
        restore = command("git checkout -- {}", str(path))
        help = f"Restore the file with {restore}, or remove it and run `rackwright lock STACK`"
        note = "a full disk leaves an empty file"
        raise DeclarationError(Diagnostic(f"{path}:1", problem, expected, help, note))
    source = read(path)
    try:
        return Lock.model_validate(source.data)
    except ValidationError as error:
        problems = problems_of(Lock, error.errors(include_url=False), unknown_key_help="Remove it")
        raise DeclarationError(*(source.error(problem, keys) for problem, keys in problems)) from None


def repository_digests(root: Path, roles: Iterable[str]) -> tuple[str, dict[str, str]]:
    """Return the digest of the repository in *root*, and the digest of each of *roles*.

    A checkout and an installation of the same version have the same digests.
    """
    files = {}
    for folder in FOLDERS:
        base = locations.PACKAGE.parent if folder == CATALOGUE else root
        for path in sorted((base / folder).rglob("*")):
            if path.is_file() and path.suffix not in IGNORED_SUFFIXES:
                files[path.relative_to(base).as_posix()] = path.read_bytes()
    return _digest(files), {role: _digest(files, f"roles/{role}/") for role in roles}


def _digest(files: Mapping[str, bytes], below: str = "") -> str:
    digest = hashlib.sha256()
    for name, content in files.items():
        if name.startswith(below):
            digest.update(f"{name}\0{len(content)}\0".encode() + content)
    return digest.hexdigest()


def changes(before: Lock | None, after: Lock) -> Iterator[str]:
    """Yield a line for each difference from *before* to *after*: ``+ packages debian-12/amd64 chrony=4.3-2``."""
    old, new = {} if before is None else _flatten(before.model_dump()), _flatten(after.model_dump())
    for place in sorted(old.keys() | new.keys()):
        if old.get(place) != new.get(place):
            sign = "+" if place not in old else "-" if place not in new else "~"
            yield f"{sign} {' '.join(place)}"


def _flatten(value: Any, place: tuple[str, ...] = ()) -> dict[tuple[str, ...], str]:
    """Return the leaves of *value* except None, by the keys that lead to them."""
    if isinstance(value, dict):
        return {path: leaf for key, below in value.items() for path, leaf in _flatten(below, (*place, key)).items()}
    return {} if value is None else {place: value}
