"""Time-stamped archives of checkpoints: backup, verification and restore.

An archive is a tar file with the manifest first. It is not compressed by default: gzip takes 35 s to save 8 % of 499 MB
of weights, and parts of an uncompressed archive can be read alone.
"""

import gzip
import os
import shutil
import subprocess
import tarfile
import uuid
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import IO, BinaryIO, cast

from workloads.checkpoint import checkpoints, disk, layout, manifest
from workloads.checkpoint.checkpoints import Checkpoint, CheckpointRequestError
from workloads.checkpoint.manifest import Manifest
from workloads.checkpoint.tar_reader import TarReader
from workloads.errors import Diagnostic, UserError
from workloads.files import fsync_directory
from workloads.foreign import regular_descriptor

_GZIP, _ZSTD = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"
"""First bytes of gzip and zstd files. Source: RFC 1952, RFC 8878."""


class Compression(StrEnum):
    none = "none"
    gz = "gz"
    zst = "zst"


class ArchiveIOError(UserError):
    """An archive could not be read or written."""

    exit_status = 4


@dataclass(frozen=True, slots=True)
class VerifiedCheckpoint:
    """A checkpoint of which each byte has been read back and compared."""

    path: Path
    """Path of the archive, or of the checkpoint that was restored from one."""
    step: int
    files: int
    bytes: int
    """Total size of its files."""


def backup(
    directory: Path, into: Path, step: int | None = None, compression: Compression = Compression.none
) -> VerifiedCheckpoint:
    """Write an archive of a checkpoint in *directory* and read it back.

    Args:
        into: Directory for the archive, whose name has the name of *directory*, the step and the time.
        step: Step of the checkpoint; None for the newest intact one.

    Raises:
        CheckpointRequestError: There is no such checkpoint.
        CheckpointDamaged: The checkpoint differs from its manifest.
        ArchiveIOError: The archive could not be written; no part of it remains.
    """
    checkpoint = _select_checkpoint(directory, step)
    ending = ".tar" if compression == Compression.none else f".tar.{compression}"
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    target = into / f"{directory.resolve().name}-{layout.step_name(checkpoint.step)}-{stamp}{ending}"
    partial = target.with_name(f".{target.name}.{uuid.uuid4().hex}.partial")
    try:
        into.mkdir(parents=True, exist_ok=True)
        _write(partial, checkpoint, compression)
        if (contents := _examine(partial, None)) != checkpoint.manifest:
            raise manifest.damage_error(partial, [f"it reads back as step {contents.step} or with other files"])
        if target.exists():
            note = "archives are never overwritten"
            raise CheckpointRequestError(
                Diagnostic(str(target), "the archive exists already", help="Run the command again", note=note)
            )
        partial.rename(target)
        fsync_directory(into)
    except OSError as error:
        raise _io_error(error, into) from None
    finally:
        with suppress(OSError):
            partial.unlink()
    return _as_verified(target, checkpoint.manifest)


def _select_checkpoint(directory: Path, step: int | None) -> Checkpoint:
    steps = layout.steps(directory)
    if not steps or (step is not None and step not in steps):
        problem = f"the directory has no checkpoint{'' if step is None else f' of step {step}'}"
        expected = f"one of the steps {', '.join(map(str, steps))}" if steps else "directories step-…"
        help = "Name the directory that a run saves to, and one of its steps"
        raise CheckpointRequestError(Diagnostic(str(directory), problem, expected, help))
    if step is not None:
        return checkpoints.at_step(directory, step)
    newest = checkpoints.newest(directory)
    if newest is None:
        raise manifest.damage_error(directory, [f"none of its {len(steps)} checkpoints is intact"])
    return newest


def _as_verified(path: Path, contents: Manifest) -> VerifiedCheckpoint:
    size = sum(entry.bytes for entry in contents.files.values())
    return VerifiedCheckpoint(path, contents.step, len(contents.files), size)


def _io_error(error: OSError, where: Path) -> ArchiveIOError:
    problem = f"the file cannot be read or written: {error.strerror or error}"
    help, note = "Correct the cause, and run the command again", "no partial file remains"
    return ArchiveIOError(Diagnostic(str(error.filename or where), problem, help=help, note=note))


def _write(path: Path, checkpoint: Checkpoint, compression: Compression) -> None:
    name = layout.step_name(checkpoint.step)
    with path.open("xb") as file:
        with _compress(file, compression) as stream, tarfile.open(fileobj=stream, mode="w|") as tar:
            for member in (manifest.NAME, *sorted(checkpoint.manifest.files)):
                tar.add(checkpoint.path / member, f"{name}/{member}", recursive=False)
        file.flush()
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)  # so that the drive is read back


@contextmanager
def _compress(file: BinaryIO, compression: Compression) -> Iterator[IO[bytes]]:
    if compression == Compression.none:
        yield file
    elif compression == Compression.gz:
        with gzip.GzipFile("", fileobj=file, mode="wb", compresslevel=1, mtime=0) as stream:
            yield cast(IO[bytes], stream)
    else:
        with _zstd("-T0", stdin=subprocess.PIPE, stdout=file) as process:
            assert process.stdin
            yield process.stdin
            process.stdin.close()
        if process.returncode:
            raise OSError(f"zstd ended with {process.returncode}")


@contextmanager
def _decompress(file: BinaryIO) -> Iterator[IO[bytes]]:
    """Yield the content of *file*, decompressed if it is gzip or zstd.

    Raises:
        EOFError: The file is damaged zstd.
    """
    magic = file.read(4)
    file.seek(0)
    if magic[:2] == _GZIP:
        with gzip.GzipFile(fileobj=file) as stream:
            yield cast(IO[bytes], stream)
    elif magic == _ZSTD:
        with _zstd("-d", stdin=file, stdout=subprocess.PIPE) as process:
            assert process.stdout
            yield process.stdout
        if process.returncode:
            raise EOFError(f"zstd ended with {process.returncode}")
    else:
        yield file


def _zstd(*options: str, stdin: int | BinaryIO, stdout: int | BinaryIO) -> subprocess.Popen[bytes]:
    program = shutil.which("zstd")
    if program is None:
        problem, help = "the program zstd is missing", "Install the package zstd, or use gz"
        raise CheckpointRequestError(Diagnostic("this computer", problem, help=help, note=".zst archives need it"))
    return subprocess.Popen([program, "-q", "-c", *options], stdin=stdin, stdout=stdout)


def verify(archive: Path) -> VerifiedCheckpoint:
    """Return the content of *archive* after reading and comparing each byte; write nothing.

    Raises:
        CheckpointDamaged: The archive is incomplete, or is not an archive of a checkpoint.
        ArchiveIOError: The archive cannot be read.
    """
    try:
        return _as_verified(archive, _examine(archive, None))
    except OSError as error:
        raise _io_error(error, archive) from None


def restore(archive: Path, into: Path) -> VerifiedCheckpoint:
    """Restore the checkpoint in *archive* as a directory below *into*, verified by all digests.

    Raises:
        CheckpointDamaged: The archive is incomplete, or is not an archive of a checkpoint; no part of it remains.
        CheckpointRequestError: A checkpoint of that step exists already.
        ArchiveIOError: Reading or writing failed; no part of the checkpoint remains.
    """
    partial = into / f".{layout.step_name(0)}.restore-{uuid.uuid4().hex}.partial"
    try:
        partial.mkdir(parents=True)
        contents = _examine(archive, partial)
        fsync_directory(partial)
        manifest.verify(partial, contents, from_drive=True)
        target = into / layout.step_name(contents.step)
        if target.exists():
            problem, note = "the checkpoint exists already", "a checkpoint is never overwritten"
            help = "Restore into another directory, or move this one away"
            raise CheckpointRequestError(Diagnostic(str(target), problem, help=help, note=note))
        partial.rename(target)
        fsync_directory(into)
    except OSError as error:
        raise _io_error(error, into) from None
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return _as_verified(target, contents)


def _examine(archive: Path, into: Path | None) -> Manifest:
    """Return the manifest in *archive* after comparing each file with it; write the files to *into* if it is set.

    Raises:
        CheckpointDamaged: A file is missing, differs, or is not in the manifest.
        OSError: The archive cannot be read, or a file cannot be written.
    """
    # unbuffered: zstd continues at the position of our last read
    with os.fdopen(regular_descriptor(archive, follow=True), "rb", buffering=0) as file:
        try:
            with _decompress(file) as stream:
                reader = TarReader(stream)
                contents = _read_members(archive, reader, into)
                reader.finish()
                return contents
        except (EOFError, ValueError, zlib.error, gzip.BadGzipFile) as error:
            flaw = f"it is incomplete, or no archive of a checkpoint ({error})"
            raise manifest.damage_error(archive, [flaw]) from None


def _read_members(archive: Path, tar: TarReader, into: Path | None) -> Manifest:
    first = tar.next()
    if first is None or not first.regular or not first.name.endswith(f"/{manifest.NAME}"):
        raise ValueError("it does not begin with a manifest")
    if first.size > manifest.MOST_BYTES:
        raise ValueError(f"its manifest has {first.size} bytes, at most {manifest.MOST_BYTES} are accepted")
    text = b"".join(iter(lambda: tar.read(disk.CHUNK), b""))
    contents = manifest.parse(text)
    prefix = f"{layout.step_name(contents.step)}/"
    if into:
        _check_free_space(into, sum(entry.bytes for entry in contents.files.values()))
        disk.write(into / manifest.NAME, text)
    missing, flaws = dict(contents.files), []
    while member := tar.next():
        name = member.name.removeprefix(prefix)
        entry = missing.pop(name, None)
        if entry is None or not member.regular or member.name == name:
            raise ValueError(f"it holds {member.name[:200]!r}, which is not in its manifest")
        if member.size != entry.bytes:  # never write more than the manifest declares
            raise ValueError(f"{name} has {member.size} bytes, not {entry.bytes}")
        if disk.copy(tar, into / name if into else None) != entry.sha256:
            flaws.append(f"{name} is not as it was written")
    flaws += [f"{name} is missing" for name in sorted(missing)]
    if flaws:
        raise manifest.damage_error(archive, flaws)
    return contents


def _check_free_space(into: Path, size: int) -> None:
    free = shutil.disk_usage(into).free
    if size > free:
        problem, expected = f"only {free} bytes are free", f"{size} bytes for the files of the archive"
        raise ArchiveIOError(Diagnostic(str(into), problem, expected, "Restore into another directory"))
