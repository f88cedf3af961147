"""Container images in the layout of the Open Container Initiative, in an archive or a directory."""

import contextlib
import hashlib
import io
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Protocol

from rackwright.errors import DeclarationError, Diagnostic
from rackwright.foreign import InvalidData, excerpt, parse_object, read_bounded
from rackwright.foreign.archives import TarArchive, open_tar
from rackwright.foreign.paths import open_below

INDEXES = frozenset(
    ("application/vnd.oci.image.index.v1+json", "application/vnd.docker.distribution.manifest.list.v2+json")
)
MANIFESTS = frozenset(
    ("application/vnd.oci.image.manifest.v1+json", "application/vnd.docker.distribution.manifest.v2+json")
)
MANIFEST_LONGEST = 4 << 20
"""Bytes of a manifest that registries accept at least. Source: OCI distribution specification, "Pushing Manifests"."""
CHILDREN_MAX = 100
"""Maximum number of manifests in an index, which are kept in memory; there are about 10 platforms."""
SIZE_MAX = 1 << 50
_MEDIA_TYPE = re.compile(r"[A-Za-z0-9][A-Za-z0-9!#$&^_.+-]{0,126}/[A-Za-z0-9][A-Za-z0-9!#$&^_.+-]{0,126}")
"""The form of a media type, which is sent in a header. Source: RFC 6838, section 4.2."""
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_SAVE = "Write it with `podman save --format oci-archive`, `buildah push` to oci-archive:, or `docker buildx build`"
_AT_ONCE = 1 << 20


@dataclass(frozen=True, slots=True)
class Descriptor:
    """A part of an image: its media type, its digest and its bytes."""

    media_type: str
    digest: str
    size: int


@dataclass(frozen=True, slots=True)
class Manifest:
    """A manifest with the parts that it names, or an index with its manifests."""

    descriptor: Descriptor
    content: bytes
    blobs: tuple[Descriptor, ...] = ()
    """The configuration and the layers; an index has none."""
    children: tuple["Manifest", ...] = ()
    """The manifests of an index, one for each platform."""

    def all_blobs(self) -> dict[str, Descriptor]:
        """Return the configurations and layers of this manifest and its children, by digest."""
        own = {blob.digest: blob for blob in self.blobs}
        return own | {digest: blob for child in self.children for digest, blob in child.all_blobs().items()}


class _Files(Protocol):
    def open(self, name: str) -> IO[bytes]:
        """Return the file *name* of the layout, or raise KeyError, OSError or InvalidData."""
        ...


class _Directory:
    def __init__(self, path: Path) -> None:
        self._path = path

    def open(self, name: str) -> IO[bytes]:
        return io.BufferedReader(open_below(self._path, name))


class _Archive:
    def __init__(self, archive: TarArchive) -> None:
        self._archive = archive

    def open(self, name: str) -> IO[bytes]:
        try:
            return self._archive.open(name)
        except KeyError:
            return self._archive.open(f"./{name}")


@dataclass(frozen=True, slots=True)
class OciArchive:
    """An image that can be read."""

    path: Path
    manifest: Manifest
    files: _Files

    def open_blob(self, blob: Descriptor) -> IO[bytes]:
        """Return the content of *blob*, after a check of its size and digest.

        Raises:
            DeclarationError: The content is missing or damaged.
        """
        file = _open(self.path, self.files, blob)
        content = hashlib.sha256()
        size = 0
        while data := file.read(_AT_ONCE):
            content.update(data)
            size += len(data)
        _check(self.path, blob, size, content.hexdigest())
        file.seek(0)
        return file


@contextlib.contextmanager
def open_image(path: Path) -> Iterator[OciArchive]:
    """Yield the only image in the archive or directory *path*.

    Raises:
        DeclarationError: There is no image, there are several, or a manifest is damaged.
    """
    with contextlib.ExitStack() as stack:
        try:
            place = Path(os.path.realpath(path))  # the caller may name a link, and no link below it is followed
            files: _Files = _Directory(place) if place.is_dir() else _Archive(stack.enter_context(open_tar(place)))
            with files.open("index.json") as file:
                index = parse_object(read_bounded(file, MANIFEST_LONGEST), MANIFEST_LONGEST)
            [entry] = index["manifests"]
            root = _descriptor(entry)
        except (OSError, KeyError, TypeError, ValueError, OverflowError) as error:
            expected = "one image in the layout of the Open Container Initiative"
            problem = "it has no such image"
            if isinstance(error, InvalidData):
                problem = f"{problem}: {error}"
            elif isinstance(error, OSError) and error.strerror:
                problem = str(error.strerror)
            raise DeclarationError(Diagnostic(str(path), problem, expected, _SAVE)) from None
        yield OciArchive(path, _read(path, files, root), files)


def _read(path: Path, files: _Files, descriptor: Descriptor, depth: int = 0) -> Manifest:
    """Return the manifest of *descriptor* with its children."""
    try:
        with _open(path, files, descriptor) as file:
            content = read_bounded(file, MANIFEST_LONGEST)
    except (InvalidData, OSError) as error:
        problem, expected = f"the manifest {descriptor.digest} cannot be read: {error}", "a manifest as registries take"
        raise DeclarationError(Diagnostic(str(path), problem, expected, _SAVE)) from None
    _check(path, descriptor, len(content), hashlib.sha256(content).hexdigest())
    try:
        document = parse_object(content, MANIFEST_LONGEST)
        if descriptor.media_type in INDEXES and depth == 0:
            entries = [_descriptor(each) for each in document["manifests"]]
            if len(entries) > CHILDREN_MAX:
                raise ValueError
            children = tuple(_read(path, files, each, depth + 1) for each in entries)
            return Manifest(descriptor, content, children=children)
        if descriptor.media_type not in MANIFESTS:
            raise ValueError
        return Manifest(
            descriptor, content, tuple(_descriptor(each) for each in (document["config"], *document["layers"]))
        )
    except (KeyError, TypeError, ValueError):
        problem = f"{descriptor.digest} is no manifest: it has the media type {excerpt(descriptor.media_type)!r}"
        raise DeclarationError(Diagnostic(str(path), problem, "a manifest of an image or an index", _SAVE)) from None


def _descriptor(entry: Any) -> Descriptor:
    """Return the descriptor in *entry*.

    Raises:
        ValueError: It is none with a SHA-256 digest.
    """
    match entry:
        case {"mediaType": str(media_type), "digest": str(digest), "size": int(size)} if (
            _DIGEST.fullmatch(digest) and _MEDIA_TYPE.fullmatch(media_type) and 0 <= size < SIZE_MAX
        ):
            return Descriptor(media_type, digest, size)
    raise ValueError("no descriptor")


def _open(path: Path, files: _Files, descriptor: Descriptor) -> IO[bytes]:
    try:
        return files.open(f"blobs/{descriptor.digest.replace(':', '/')}")
    except (KeyError, OSError, InvalidData) as error:
        help = "Write the archive again, with all platforms that its index names"
        problem = str(error) if isinstance(error, InvalidData) else f"{descriptor.digest} is missing"
        raise DeclarationError(Diagnostic(str(path), problem, help=help)) from None


def _check(path: Path, descriptor: Descriptor, size: int, digest: str) -> None:
    if (size, f"sha256:{digest}") != (descriptor.size, descriptor.digest):
        problem, expected = f"a part has {size} bytes and the digest sha256:{digest}", "the content of "
        expected += f"{descriptor.digest} with {descriptor.size} bytes"
        raise DeclarationError(Diagnostic(str(path), problem, expected, "Write the archive again"))
