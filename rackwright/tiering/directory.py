"""The directories that archives are made from and restored to: of this computer, or of a host."""

import hashlib
import os
import stat
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from pydantic import ValidationError

from rackwright.errors import ChangeRefused, Diagnostic, StepFailed
from rackwright.tiering import loader
from rackwright.tiering.bucket import DIGEST, Bucket
from rackwright.tiering.manifest import ArchivedFile, SourceFile
from rackwright.tiering.meter import Meter
from rackwright.tiering.names import not_utf_8
from rackwright.tiering.onhost.transfer import delete_unchanged, digest_file, measure, write_file
from rackwright.tiering.onhost.tree import (
    DeletedInPart,
    NotADirectory,
    TransferFailed,
    is_text,
    open_directory,
    open_file,
    replace_file,
    walk,
)

AT_ONCE = 8
LARGE_BYTES = 2 * loader.PART_BYTES
"""Size from which a file is downloaded by several requests at once."""
PART_BYTES = 16 << 20
"""Size of the parts of an upload, of which several are under way at once."""
LINKS_MAX = 40
"""Maximum number of links in the path of a directory. Source: Linux, path_resolution(7)."""


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
    """A directory of this computer, in which other accounts may have folders of their own.

    Each path is followed as `onhost.tree` does it: no link below the directory leads anywhere.
    """

    path: Path

    def __str__(self) -> str:
        return str(self.path)

    def files(self) -> tuple[SourceFile, ...]:
        with self._errors("read"), self._open() as top:
            if top is None:
                return ()
            entries = [entry for entry in walk(top) if not entry.is_directory]
            if others := [entry for entry in entries if not entry.is_file]:
                raise ChangeRefused(*(not_a_file(f"{self}/{each.path}", each.is_link) for each in others))
            if unnamed := [entry.path for entry in entries if not is_text(entry.path)]:
                raise not_utf_8(str(self), [path.encode(errors="backslashreplace").decode() for path in unnamed])
            return tuple(_source(top, entry.path) for entry in entries)

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
        with (
            self._errors("read"),
            open_directory(self._place()) as top,
            open_file(top, source.file.path) as file,
            TransferManager(bucket.client, config) as manager,
        ):
            place = f"/proc/self/fd/{file.fileno()}"  # the file that is open: s3transfer opens it again for each part
            manager.upload(place, bucket.name, key, extra_args=metadata, subscribers=[Counter()]).result()

    def read_back(
        self, bucket: Bucket, archive: str, files: Sequence[ArchivedFile], meter: Meter
    ) -> Mapping[str, ArchivedFile]:
        return read_back(bucket, archive, files, meter)

    def download(
        self, bucket: Bucket, archive: str, files: Sequence[ArchivedFile], meter: Meter
    ) -> Mapping[str, ArchivedFile]:
        with self._errors(), open_directory(self._place(), make=True) as top:
            large = [file for file in files if file.bytes >= LARGE_BYTES]
            whole = {file.path: file for file in large if self._download_parts(top, bucket, archive, file, meter)}
            rest = [file for file in files if file.path not in whole]
            with ThreadPoolExecutor(AT_ONCE) as pool:
                found = _by_path(pool.map(lambda file: self._download(top, bucket, archive, file, meter), rest))
        return {**whole, **found}

    def delete(self, sources: Sequence[SourceFile]) -> Sequence[str]:
        files = [{"path": each.file.path, "bytes": each.file.bytes, "mtime_ns": each.mtime_ns} for each in sources]
        with self._errors("deleted"):
            return delete_unchanged(self._place(), files)

    @contextmanager
    def _open(self) -> Iterator[int | None]:
        """Yield a descriptor of the directory; None if there is none."""
        place = self._place()
        if not os.path.lexists(place):
            yield None
            return
        with open_directory(place) as top:
            yield top

    def _place(self) -> Path:
        """Return the absolute path without links of root's and of this account, which lead where it wants to."""
        return follow_own_links(self.path)

    @contextmanager
    def _errors(self, action: str = "") -> Iterator[None]:
        """Turn the errors of a directory that changes during the block into errors of ours.

        Args:
            action: A participle for messages; empty leaves errors of the operating system as they are.
        """
        try:
            yield
        except NotADirectory as error:
            help, note = "Name a directory without links below it", "no link was followed, and nothing was deleted"
            raise ChangeRefused(Diagnostic(str(self), str(error), "a directory", help, note=note)) from None
        except TransferFailed as error:
            note = "" if isinstance(error, DeletedInPart) else "nothing was deleted"
            help = "Stop the programs that write there, and run the same command again"
            raise StepFailed(Diagnostic(str(self), str(error), help=help, note=note)) from None
        except OSError as error:
            if not action:
                raise
            problem, help = f"the directory cannot be {action}: {error}", "Correct it, and run the same command again"
            raise StepFailed(Diagnostic(str(self), problem, help=help)) from None

    def _download_parts(self, top: int, bucket: Bucket, archive: str, file: ArchivedFile, meter: Meter) -> bool:
        """Write the large *file* by several requests at once, and return whether it came with the right content."""
        from botocore.exceptions import ClientError

        digest = hashlib.sha256()
        try:
            with replace_file(top, file.path) as target:
                handle = target.fileno()
                put = partial(_put, handle)
                for first, last in loader.fetch(bucket, bucket.key(archive, file.path), file.bytes, put, meter):
                    digest.update(os.pread(handle, last - first, first))
                if digest.hexdigest() != file.sha256:
                    raise _WrongContent(file)
                os.fchmod(handle, file.mode)
        except (_WrongContent, loader.ObjectChanged, ClientError):
            meter.add(-file.bytes)  # a plain download says what is wrong
            return False
        return True

    def _download(
        self, top: int, bucket: Bucket, archive: str, file: ArchivedFile, meter: Meter
    ) -> ArchivedFile | None:
        blocks = bucket.blocks(bucket.key(archive, file.path), file.bytes, meter)
        return None if blocks is None else file.model_copy(update=write_file(top, file.model_dump(), blocks))


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


def follow_own_links(path: Path) -> Path:
    """Return the absolute *path*, with those links above its last part followed that root or this account has made.

    A link of another account stays in the path, where `open_directory` refuses it.
    """
    parts = list((Path.cwd() / path).parts[1:])
    done, count = Path("/"), 0
    while parts:
        part = parts.pop(0)
        target = _own_link(done / part) if parts and part != ".." else None
        if target is None:
            done = done.parent if part == ".." else done / part
            continue
        count += 1
        if count > LINKS_MAX:
            raise TransferFailed(f"{path} has more than {LINKS_MAX} links")
        done, parts = Path("/") if target.is_absolute() else done, [*target.parts[target.is_absolute() :], *parts]
    return done


def _own_link(path: Path) -> Path | None:
    """Return the target of the link *path* of root or of this account; None for anything else."""
    try:
        descriptor = os.open(path, os.O_PATH | os.O_NOFOLLOW)
    except OSError:
        return None
    try:
        found = os.fstat(descriptor)
        is_own = stat.S_ISLNK(found.st_mode) and found.st_uid in (0, os.geteuid())
        return Path(os.readlink("", dir_fd=descriptor)) if is_own else None
    finally:
        os.close(descriptor)


def not_a_file(where: str, is_link: bool) -> Diagnostic:
    """Return the refusal of the path *where*."""
    kind = "a link" if is_link else "neither a file nor a directory"
    return Diagnostic(where, f"the path is {kind}, which a bucket cannot hold", help="Move it out of the directory")


def _by_path(files: Iterator[ArchivedFile | None]) -> Mapping[str, ArchivedFile]:
    return {file.path: file for file in files if file is not None}


def _source(top: int, path: str) -> SourceFile:
    try:
        found = digest_file(top, path)
    except OSError as error:
        raise TransferFailed(f"{path!r} cannot be read: {error.strerror}") from None
    mtime_ns = found.pop("mtime_ns")
    try:
        return SourceFile(ArchivedFile.model_validate(found), mtime_ns)
    except ValidationError:
        raise TransferFailed(f"{path!r} has a name that an archive cannot hold") from None


def _put(handle: int, offset: int, block: memoryview) -> None:
    while block:
        written = os.pwrite(handle, block, offset)
        offset, block = offset + written, block[written:]
