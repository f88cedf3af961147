"""The directories that archives are made from and restored to: of this computer, or of a host."""

import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from rackwright.errors import ChangeRefused, Diagnostic
from rackwright.files import fsync_directory, replacing
from rackwright.tiering import loader
from rackwright.tiering.bucket import DIGEST, Bucket
from rackwright.tiering.manifest import ArchivedFile, SourceFile
from rackwright.tiering.meter import Meter
from rackwright.tiering.onhost.transfer import BLOCK_BYTES, measure, write_through

AT_ONCE = 8
LARGE_BYTES = 2 * loader.PART_BYTES
"""Size from which a file is downloaded by several requests at once."""
PART_BYTES = 16 << 20
"""Size of the parts of an upload, of which several are under way at once."""


class Directory(Protocol):
    """A directory whose files go to a bucket or come from it."""

    def files(self) -> tuple[SourceFile, ...]:
        """Return all files with their digests, sorted by path; none if the directory does not exist.

        Raises:
            ChangeRefused: it contains something that is no file.
        """
        ...

    def upload(self, bucket: Bucket, archive: str, source: SourceFile, meter: Meter) -> None:
        """Send one file."""
        ...

    def read_back(
        self, bucket: Bucket, archive: str, files: Sequence[ArchivedFile], meter: Meter
    ) -> Mapping[str, ArchivedFile]:
        """Read the objects of *files*, and return those that exist with their actual sizes and digests, by path."""
        ...

    def download(
        self, bucket: Bucket, archive: str, files: Sequence[ArchivedFile], meter: Meter
    ) -> Mapping[str, ArchivedFile]:
        """Write *files*, each whole or not at all, and return what came, by path.

        A file that came with another content than that of *files* is not written.
        """
        ...

    def delete(self, sources: Sequence[SourceFile]) -> Sequence[str]:
        """Delete *sources* and the directories that are empty then; with a changed file, nothing.

        Returns:
            The paths of changed files.
        """
        ...


@dataclass(frozen=True)
class LocalDirectory:
    """A directory of this computer."""

    path: Path

    def __str__(self) -> str:
        return str(self.path)

    def files(self) -> tuple[SourceFile, ...]:
        if not self.path.exists():
            return ()
        if not self.path.is_dir() or self.path.is_symlink():
            raise ChangeRefused(Diagnostic(str(self.path), "the path is no directory", help="Name a directory"))
        places = sorted(self.path.rglob("*"))
        if others := [place for place in places if place.is_symlink() or not (place.is_file() or place.is_dir())]:
            raise ChangeRefused(*(not_a_file(str(place), place.is_symlink()) for place in others))
        return tuple(self._read(place) for place in places if place.is_file())

    def upload(self, bucket: Bucket, archive: str, source: SourceFile, meter: Meter) -> None:
        from s3transfer.manager import TransferConfig, TransferManager
        from s3transfer.subscribers import BaseSubscriber

        class Counter(BaseSubscriber):  # type: ignore[misc]
            def on_progress(self, bytes_transferred: int, **_: Any) -> None:
                meter.add(bytes_transferred)

        config = TransferConfig(
            multipart_threshold=PART_BYTES,
            multipart_chunksize=PART_BYTES,
            max_request_concurrency=AT_ONCE,
            max_bandwidth=meter.bytes_per_second,
        )
        metadata, key = {"Metadata": {DIGEST: source.file.sha256}}, bucket.key(archive, source.file.path)
        with TransferManager(bucket.client, config) as manager:
            place = str(self.path / source.file.path)
            manager.upload(place, bucket.name, key, extra_args=metadata, subscribers=[Counter()]).result()

    def read_back(
        self, bucket: Bucket, archive: str, files: Sequence[ArchivedFile], meter: Meter
    ) -> Mapping[str, ArchivedFile]:
        return read_back(bucket, archive, files, meter)

    def download(
        self, bucket: Bucket, archive: str, files: Sequence[ArchivedFile], meter: Meter
    ) -> Mapping[str, ArchivedFile]:
        large = [file for file in files if file.bytes >= LARGE_BYTES]
        whole = {file.path: file for file in large if self._download_parts(bucket, archive, file, meter)}
        rest = [file for file in files if file.path not in whole]
        with ThreadPoolExecutor(AT_ONCE) as pool:
            found = _by_path(pool.map(lambda file: self._download(bucket, archive, file, meter), rest))
        return {**whole, **found}

    def delete(self, sources: Sequence[SourceFile]) -> Sequence[str]:
        if changed := [source.file.path for source in sources if not self._is_unchanged(source)]:
            return changed
        for source in sources:
            (self.path / source.file.path).unlink()
        for folder in sorted((place for place in self.path.rglob("*") if place.is_dir()), reverse=True):
            if not any(folder.iterdir()):
                folder.rmdir()
        if not any(self.path.iterdir()):
            self.path.rmdir()
        fsync_directory(self.path.parent)
        return ()

    def _read(self, place: Path) -> SourceFile:
        before, path = place.lstat(), place.relative_to(self.path).as_posix()
        with place.open("rb") as content:
            found = measure(iter(lambda: content.read(BLOCK_BYTES), b""))
        file = ArchivedFile(path=path, mode=before.st_mode & 0o777, **found)
        return SourceFile(file, before.st_mtime_ns)

    def _is_unchanged(self, source: SourceFile) -> bool:
        try:
            found = (self.path / source.file.path).lstat()
        except OSError:
            return False
        return (found.st_size, found.st_mtime_ns) == (source.file.bytes, source.mtime_ns)

    def _download_parts(self, bucket: Bucket, archive: str, file: ArchivedFile, meter: Meter) -> bool:
        """Write the large *file* by several requests at once, and return whether it came with the right content."""
        from botocore.exceptions import ClientError

        digest = hashlib.sha256()
        try:
            with replacing(self.path / file.path, file.mode) as target:
                handle = target.fileno()
                put = partial(_put, handle)
                for first, last in loader.fetch(bucket, bucket.key(archive, file.path), file.bytes, put, meter):
                    digest.update(os.pread(handle, last - first, first))
                if digest.hexdigest() != file.sha256:
                    raise _WrongContent(file)
        except (_WrongContent, loader.ObjectChanged, ClientError):
            meter.add(-file.bytes)  # a plain download says what is wrong
            return False
        return True

    def _download(self, bucket: Bucket, archive: str, file: ArchivedFile, meter: Meter) -> ArchivedFile | None:
        blocks = bucket.blocks(bucket.key(archive, file.path), file.bytes, meter)
        if blocks is None:
            return None
        place = self.path / file.path
        place.parent.mkdir(parents=True, exist_ok=True)
        try:
            with replacing(place, file.mode) as target:
                found = measure(write_through(blocks, target))
                if found["sha256"] != file.sha256:
                    raise _WrongContent(file.model_copy(update=found))
        except _WrongContent as wrong:
            return wrong.found
        return file


class _WrongContent(Exception):
    """A download has another content than the manifest says."""

    def __init__(self, found: ArchivedFile) -> None:
        self.found = found


def read_back(bucket: Bucket, archive: str, files: Sequence[ArchivedFile], meter: Meter) -> Mapping[str, ArchivedFile]:
    """Read the objects of *files* on this computer, and return those that exist as they are, by path."""

    def read(file: ArchivedFile) -> ArchivedFile | None:
        blocks = bucket.blocks(bucket.key(archive, file.path), file.bytes, meter)
        return None if blocks is None else file.model_copy(update=measure(blocks))

    with ThreadPoolExecutor(AT_ONCE) as pool:
        return _by_path(pool.map(read, files))


def not_a_file(where: str, is_link: bool) -> Diagnostic:
    """Return the refusal of the path *where*."""
    kind = "a link" if is_link else "neither a file nor a directory"
    return Diagnostic(where, f"the path is {kind}, which a bucket cannot hold", help="Move it out of the directory")


def _by_path(files: Iterator[ArchivedFile | None]) -> Mapping[str, ArchivedFile]:
    return {file.path: file for file in files if file is not None}


def _put(handle: int, offset: int, block: memoryview) -> None:
    while block:
        written = os.pwrite(handle, block, offset)
        offset, block = offset + written, block[written:]
