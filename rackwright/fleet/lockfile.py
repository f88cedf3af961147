"""The lock of a fleet: exact versions, by their hashes, of all that its hosts are made of. It holds no addresses."""

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import Field, ValidationError

from rackwright.errors import DeclarationError, DeclarationErrors, command
from rackwright.fleet.problems import problems_of
from rackwright.fleet.source import read
from rackwright.schema.base import Schema

HEAD = "# Written by `rackwright lock`. Hashes are SHA-256.\n"
FOLDERS = ("playbooks", "rackwright/schema/catalogue", "roles", "templates")
"""What the repository itself brings to hosts: templates, roles and the catalogue."""
NO_MATTER = (".md", ".pyc")


class Lock(Schema):
    """Everything in it was there, and fitted together, when it was written."""

    fleet: str
    rackwright: str
    """The version that wrote it."""
    repository: str
    """Digest of all roles, templates, playbooks and the catalogue."""
    roles: dict[str, str]
    """Digest of each role that the fleet plays, with its templates."""
    key: str | None = None
    """Who signs the local repository: a public key of OpenPGP, in armour. None before the first `--fetch`."""
    packages: dict[str, dict[str, str]] = Field(default_factory=dict)
    """System and architecture, ``debian-12/amd64``; ``name=version``; digest of the package's file."""
    images: dict[str, str] = Field(default_factory=dict)
    """Container images by the names under which roles know them; their own digests."""
    wheels: dict[str, str] = Field(default_factory=dict)
    """Name of each file that roles install for Python; its digest. Mostly wheels."""

    @property
    def text(self) -> str:
        """The file, byte by byte."""
        data = _sorted({name: value for name in Lock.model_fields if (value := getattr(self, name)) is not None})
        return HEAD + yaml.dump(data, Dumper=_Dumper, sort_keys=False, width=1 << 20)

    @property
    def digest(self) -> str:
        """By it others can tell whether they speak of the same set."""
        return hashlib.sha256(self.text.encode()).hexdigest()


def _sorted(fields: dict[str, Any]) -> dict[str, Any]:
    """Return *fields* in their order, and what is below them by name."""
    return {
        name: _sorted(dict(sorted(value.items()))) if isinstance(value, dict) else value
        for name, value in fields.items()
    }


class _Dumper(yaml.SafeDumper):
    pass


_Dumper.add_representer(
    str,
    lambda dumper, value: dumper.represent_scalar("tag:yaml.org,2002:str", value, style="|" if "\n" in value else None),
)


def lock_path(fleet: Path) -> Path:
    """Return where the lock of the fleet in the file *fleet* stands."""
    return fleet.with_suffix(".lock.yaml")


def load_lock(path: Path) -> Lock | None:
    """Return the lock in the file *path*; None where there is none.

    Raises:
        DeclarationErrors: somebody has spoilt it.
    """
    if not path.exists():
        return None
    if not path.stat().st_size:
        got, want = "got an empty file", "a lock lists versions and hashes; a full disk leaves an empty one"
        back = command("git checkout -- {}", str(path))
        fix = f"Free space on that disk, then bring it back with {back}, or remove it and run `rackwright lock STACK`"
        raise DeclarationErrors([DeclarationError(f"{path}:1", got, want, fix)])
    source = read(path)
    try:
        return Lock.model_validate(source.data)
    except ValidationError as error:
        found = problems_of(Lock, error.errors(include_url=False))
        raise DeclarationErrors(source.error(problem, keys) for problem, keys in found) from None


def house_digests(root: Path, roles: Iterable[str]) -> tuple[str, dict[str, str]]:
    """Return the digest of the repository in the checkout *root*, and that of each of *roles* by itself."""
    paths = (path for folder in FOLDERS for path in sorted((root / folder).rglob("*")) if path.is_file())
    files = {path.relative_to(root).as_posix(): path.read_bytes() for path in paths if path.suffix not in NO_MATTER}
    return _digest(files), {role: _digest(files, f"roles/{role}/") for role in roles}


def _digest(files: Mapping[str, bytes], below: str = "") -> str:
    told = hashlib.sha256()
    for name, content in files.items():
        if name.startswith(below):
            told.update(f"{name}\0{len(content)}\0".encode() + content)
    return told.hexdigest()


def changes(before: Lock | None, after: Lock) -> Iterator[str]:
    """Yield a line for each thing that *after* has otherwise: ``+ packages debian-12/amd64 chrony=4.3-2``."""
    old, new = {} if before is None else _flat(before.model_dump()), _flat(after.model_dump())
    for place in sorted(old.keys() | new.keys()):
        if old.get(place) != new.get(place):
            sign = "+" if place not in old else "-" if place not in new else "~"
            yield f"{sign} {' '.join(place)}"


def _flat(value: Any, place: tuple[str, ...] = ()) -> dict[tuple[str, ...], str]:
    """Return what is not nothing in *value*, by the keys that lead there."""
    if isinstance(value, dict):
        return {way: leaf for key, below in value.items() for way, leaf in _flat(below, (*place, key)).items()}
    return {} if value is None else {place: value}
