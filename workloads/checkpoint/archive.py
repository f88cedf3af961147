"""Time-stamped archives of checkpoints, and the proof that one can be taken back.

An archive is a tar file with the manifest first. Plain by default: weights hardly compress, gzip takes 35 s to save 8 %
of 499 MB, and a plain one can be read in part.
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
from workloads.checkpoint.checkpoints import Checkpoint, Refused
from workloads.checkpoint.manifest import Manifest
from workloads.checkpoint.tar_reader import TarReader
from workloads.errors import WorkloadError

_GZIP, _ZSTD = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"
"""How such files begin. Source: RFC 1952, RFC 8878."""


class Compression(StrEnum):
    none = "none"
    gz = "gz"
    zst = "zst"


class Failed(WorkloadError):
    """The drive, or a program, did not do what was asked of it."""

    exit_status = 4


@dataclass(frozen=True, slots=True)
class Proved:
    """A checkpoint of which every byte has been read back and compared."""

    path: Path
    """Of the archive, or of the checkpoint that was taken back from one."""
    step: int
    files: int
    bytes: int
    """Of its files."""


def backup(directory: Path, into: Path, step: int | None = None, compression: Compression = Compression.none) -> Proved:
    """Write an archive of a checkpoint in *directory* and read it back.

    Args:
        into: Directory for the archive, whose name is that of *directory*, with step and time.
        step: Which; the newest intact one where it is None.

    Raises:
        Refused: there is no such checkpoint.
        Damaged: the one that was asked for is not as it was written.
        Failed: it could not be written; nothing is left of it.
    """
    chosen = _chosen(directory, step)
    ending = ".tar" if compression == Compression.none else f".tar.{compression}"
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    target = into / f"{directory.resolve().name}-{layout.step_name(chosen.step)}-{stamp}{ending}"
    beside = target.with_name(f".{target.name}.{uuid.uuid4().hex}.partial")
    try:
        into.mkdir(parents=True, exist_ok=True)
        _write(beside, chosen, compression)
        if (told := _examine(beside, None)) != chosen.manifest:
            raise manifest.damaged(beside, [f"it reads back as step {told.step}, or with other files"])
        if target.exists():
            raise Refused(str(target), "it is there already", "archives are never overwritten", "Run it again")
        beside.rename(target)
        disk.fsync_directory(into)
    except OSError as error:
        raise _failed(error, into) from None
    finally:
        with suppress(OSError):
            beside.unlink()
    return _proved(target, chosen.manifest)


def _chosen(directory: Path, step: int | None) -> Checkpoint:
    there = layout.steps(directory)
    if not there or (step is not None and step not in there):
        got = f"it has no checkpoint{'' if step is None else f' of step {step}'}"
        held = f"it has {', '.join(map(str, there))}" if there else "a checkpoint is a directory step-…"
        raise Refused(str(directory), got, held, "Name the directory that a training saves to, and one of its steps")
    if step is not None:
        return checkpoints.at(directory, step)
    newest = checkpoints.newest(directory)
    if newest is None:
        raise manifest.damaged(directory, [f"none of its {len(there)} checkpoints is intact"])
    return newest


def _proved(path: Path, told: Manifest) -> Proved:
    return Proved(path, told.step, len(told.files), sum(entry.bytes for entry in told.files.values()))


def _failed(error: OSError, where: Path) -> Failed:
    got = f"{error.strerror or error}"
    want = "the file and its directory can be read and written"
    return Failed(str(error.filename or where), got, want, "Mend that, and run it again; nothing half-done is left")


def _write(path: Path, chosen: Checkpoint, compression: Compression) -> None:
    name = layout.step_name(chosen.step)
    with path.open("xb") as file:
        with _packing(file, compression) as stream, tarfile.open(fileobj=stream, mode="w|") as tar:
            for member in (manifest.NAME, *sorted(chosen.manifest.files)):
                tar.add(chosen.path / member, f"{name}/{member}", recursive=False)
        file.flush()
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)  # what is read back comes from the drive


@contextmanager
def _packing(file: BinaryIO, compression: Compression) -> Iterator[IO[bytes]]:
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
def _unpacking(file: BinaryIO) -> Iterator[IO[bytes]]:
    """Yield what is in *file*, whichever way it is packed.

    Raises:
        EOFError: zstd found it damaged.
    """
    begins = file.read(4)
    file.seek(0)
    if begins[:2] == _GZIP:
        with gzip.GzipFile(fileobj=file) as stream:
            yield cast(IO[bytes], stream)
    elif begins == _ZSTD:
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
        raise Refused("zstd", "got no such program", "it packs and unpacks .zst", "Install the package zstd, or use gz")
    return subprocess.Popen([program, "-q", "-c", *options], stdin=stdin, stdout=stdout)


def prove(archive: Path) -> Proved:
    """Return what *archive* holds once every byte of it has been read and compared; writes nothing.

    Raises:
        Damaged: it is not whole, or no archive of a checkpoint.
        Failed: it cannot be read.
    """
    try:
        return _proved(archive, _examine(archive, None))
    except OSError as error:
        raise _failed(error, archive) from None


def restore(archive: Path, into: Path) -> Proved:
    """Take the checkpoint in *archive* back, as a directory below *into*, proved by all its digests.

    Raises:
        Damaged: the archive is not whole, or no archive of a checkpoint; nothing is left of it.
        Refused: there is a checkpoint of that step already.
        Failed: it could not be read or written; nothing is left of it.
    """
    beside = into / f".{layout.step_name(0)}.restore-{uuid.uuid4().hex}.partial"
    try:
        beside.mkdir(parents=True)
        told = _examine(archive, beside)
        disk.fsync_directory(beside)
        manifest.prove(beside, told, from_drive=True)
        target = into / layout.step_name(told.step)
        if target.exists():
            fix = "Restore into another directory, or move this one away"
            raise Refused(str(target), "it is there already", "what is there is never overwritten", fix)
        beside.rename(target)
        disk.fsync_directory(into)
    except OSError as error:
        raise _failed(error, into) from None
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    return _proved(target, told)


def _examine(archive: Path, into: Path | None) -> Manifest:
    """Return the manifest of what *archive* holds, every file compared with it, and written to *into* on the way.

    Raises:
        Damaged: something is missing, differs, or is there besides.
        OSError: it cannot be read, or a file not written.
    """
    with archive.open("rb", buffering=0) as file:  # zstd goes on where we stop reading
        try:
            with _unpacking(file) as stream:
                reader = TarReader(stream)
                found = _members(archive, reader, into)
                reader.finish()
                return found
        except (EOFError, ValueError, zlib.error, gzip.BadGzipFile) as error:
            raise manifest.damaged(archive, [f"it is not whole, or no archive of a checkpoint ({error})"]) from None


def _members(archive: Path, tar: TarReader, into: Path | None) -> Manifest:
    first = tar.next()
    if first is None or not first.regular or not first.name.endswith(f"/{manifest.NAME}"):
        raise ValueError("it does not begin with a manifest")
    if first.size > manifest.MOST_BYTES:
        raise ValueError(f"its manifest has {first.size} bytes, at most {manifest.MOST_BYTES} are taken")
    text = b"".join(iter(lambda: tar.read(disk.CHUNK), b""))
    told = manifest.parse(text)
    below = f"{layout.step_name(told.step)}/"
    if into:
        _need_room(into, sum(entry.bytes for entry in told.files.values()))
        disk.write(into / manifest.NAME, text)
    missing, flaws = dict(told.files), []
    while member := tar.next():
        name = member.name.removeprefix(below)
        entry = missing.pop(name, None)
        if entry is None or not member.regular or member.name == name:
            raise ValueError(f"it holds {member.name[:200]!r}, which is not in its manifest")
        if member.size != entry.bytes:  # nothing is unpacked beyond what the manifest declares
            raise ValueError(f"{name} has {member.size} bytes, not {entry.bytes}")
        if disk.copy(tar, into / name if into else None) != entry.sha256:
            flaws.append(f"{name} is not as it was written")
    flaws += [f"{name} is missing" for name in sorted(missing)]
    if flaws:
        raise manifest.damaged(archive, flaws)
    return told


def _need_room(into: Path, size: int) -> None:
    free = shutil.disk_usage(into).free
    if size > free:
        want = "an archive is restored where there is room for all of it"
        raise Failed(str(into), f"{free} bytes are free, its files have {size}", want, "Restore it elsewhere")
