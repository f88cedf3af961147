"""The manifest of an archived directory: each file with its size and digest. It is in the bucket, beside the files."""

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from rackwright.errors import ChangeRefused, Diagnostic, UserError
from rackwright.foreign import parse_object
from rackwright.schema.object_store import INTERNAL_PARTS, is_internal

FORMAT = 1
NAME_MAX, PATH_MAX = 255, 4096
"""Maximum bytes of a name and of a path. Source: Linux, limits.h."""
BYTES_MAX = 64 << 20
"""Maximum size of a manifest, of about 300,000 files."""
ITEMS_MAX = 5 * (BYTES_MAX // 150)
"""Maximum number of values in a manifest: a file has five, and takes 150 bytes at least."""
NAME = r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}"
"""The form of an archive's name, the first part of its objects' keys."""


PATHS_EXPECTED = f"no file or folder named {' or '.join(INTERNAL_PARTS)}: stores keep files of their own there"


class ArchiveDamaged(UserError):
    """An archive in a bucket is not what its manifest says."""

    exit_status = 1


class ArchivedFile(BaseModel):
    """A file of an archive."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    path: str
    """Path below the directory, with slashes."""
    bytes: int = Field(ge=0)
    sha256: str = Field(pattern="^[0-9a-f]{64}$")
    mode: int = Field(ge=0, le=0o777)
    """Permissions of the file."""

    @field_validator("path")
    @classmethod
    def _is_below(cls, path: str) -> str:
        parts = PurePosixPath(path).parts
        if not parts or path.startswith("/") or ".." in parts or str(PurePosixPath(path)) != path or "\0" in path:
            raise ValueError("a path below the directory")
        if max(len(part.encode()) for part in parts) > NAME_MAX or len(path.encode()) > PATH_MAX:
            raise ValueError("a path that a directory can have")
        return path


class Manifest(BaseModel):
    """The list of all files of an archive."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: int = FORMAT
    name: str = Field(pattern=f"^{NAME}$")
    files: tuple[ArchivedFile, ...]
    canary: str | None = Field(default=None, pattern="^[0-9a-f]{64}$")
    """SHA-256 of the object with the outputs that the first restore test recorded; None before."""

    @field_validator("files")
    @classmethod
    def _fit_one_directory(cls, files: tuple[ArchivedFile, ...]) -> tuple[ArchivedFile, ...]:
        paths = {file.path for file in files}
        parents = {str(parent) for path in paths for parent in PurePosixPath(path).parents}
        if len(paths) != len(files) or paths & parents:
            raise ValueError("files with one path each, none of them below another")
        return files

    @property
    def size(self) -> int:
        """The bytes of all files."""
        return sum(file.bytes for file in self.files)

    @property
    def without_canary(self) -> "Manifest":
        """The manifest as the move wrote it."""
        return self.model_copy(update={"canary": None})

    def render(self) -> bytes:
        """Return the content of the object, with the digest of the list."""
        plain = self.model_dump(mode="json", exclude={"canary"} if self.canary is None else None)
        return json.dumps({**plain, "sha256": _digest(plain)}, indent=1, sort_keys=True).encode()


@dataclass(frozen=True)
class SourceFile:
    """A file of a directory to archive, as it was when its digest was computed."""

    file: ArchivedFile
    mtime_ns: int


def parse(content: bytes, where: str) -> Manifest:
    """Return the manifest in the object *where*.

    Raises:
        ArchiveDamaged: it is not one that `render` wrote.
    """
    try:
        plain = parse_object(content, BYTES_MAX, max_depth=3, max_items=ITEMS_MAX)
        digest = plain.pop("sha256", None)
        if digest != _digest(plain):
            raise damage(where, "the manifest has another content than its digest")
        manifest = Manifest.model_validate(plain)
    except ValueError as error:
        reason = f"{error.error_count()} values are wrong" if isinstance(error, ValidationError) else error
        raise damage(where, f"the object is no manifest: {reason}") from None
    if manifest.format != FORMAT:
        problem = f"the manifest has format {manifest.format}"
        raise ChangeRefused(
            Diagnostic(where, problem, f"format {FORMAT}", "Use the version of rackwright that wrote it")
        )
    if internal := next(internal_paths(manifest), None):
        help = "Restore it with the version of rackwright that wrote it, and move it again with another path"
        raise ArchiveDamaged(Diagnostic(where, f"the archive has the path {internal}", PATHS_EXPECTED, help))
    return manifest


def internal_paths(manifest: Manifest) -> Iterator[str]:
    """Yield the paths of *manifest* whose keys may name files of a store itself, the archive's name before them."""
    paths = (f"{manifest.name}/{file.path}" for file in manifest.files)
    return (path for path in paths if is_internal(path))


def damage(where: str, problem: str) -> ArchiveDamaged:
    """Return the error of the object *where*, which is no manifest that `render` wrote."""
    help = "Restore an earlier version of the object, or another copy of the archive"
    return ArchiveDamaged(Diagnostic(where, problem, help=help))


def check_name(name: str) -> None:
    """Return if *name* is valid as the name of an archive.

    Raises:
        ChangeRefused: it is not.
    """
    if not re.fullmatch(NAME, name):
        expected = "letters, digits, dots, hyphens and underscores, 128 at most, after a letter or digit"
        raise ChangeRefused(Diagnostic("--name", f"got {name!r}", expected, "Give the archive another name"))


def differences(wanted: Sequence[ArchivedFile], actual: Mapping[str, ArchivedFile]) -> Iterator[str]:
    """Yield a text for each file of *wanted* that *actual*, by path, has not or has with another content."""
    for file in wanted:
        found = actual.get(file.path)
        if found is None:
            yield f"{file.path}: missing"
        elif (found.bytes, found.sha256) != (file.bytes, file.sha256):
            yield f"{file.path}: {found.bytes} bytes with another content"


def _digest(plain: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()
