"""The background process that writes snapshots to the drive, at low priority and with the standard library alone.

The process takes its settings as an argument and one request per line on stdin. It replies with one line on stdout: the
step is committed, or the reason why not. When stdin ends, also because the training was killed, it finishes its
requests. It ignores SIGTERM and SIGINT: the training handles them and decides what to save.

Hashing in a thread of the training process would slow its steps to a third or less on two cores.
"""

import errno
import json
import mmap
import os
import shutil
import signal
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from workloads.checkpoint import disk, layout, manifest, retention
from workloads.checkpoint.layout import FAILED, PART, TENSORS, VALUES, shard_name
from workloads.checkpoint.manifest import Manifest, ManifestEntry
from workloads.files import fsync_directory
from workloads.foreign import parse_object, read_file

_POLL_SECONDS = 0.05


@dataclass(frozen=True, slots=True)
class WriterSettings:
    """Settings that stay the same for all checkpoints."""

    directory: str
    rank: int
    world: int
    run: str
    """Identifier of this start of the training, the same on all ranks and different at each start."""
    keep_last: int
    keep_every: int | None
    memory: int
    """File descriptor of the snapshot's memory."""
    bytes_per_second: float | None
    shards_seconds: float
    """Time limit for the shards of the other ranks."""


@dataclass(frozen=True, slots=True)
class WriteRequest:
    """A request to write one snapshot."""

    step: int
    bytes: int
    values: str


class CheckpointNotCommitted(Exception):
    """A checkpoint that was not committed, because of another rank; the message gives the reason."""


def persist(request: WriteRequest, settings: WriterSettings, memory: memoryview) -> None:
    """Write this rank's shard; on rank 0 also commit the checkpoint when all shards exist.

    Raises:
        OSError: A file could not be written.
        CheckpointNotCommitted: Another rank failed, or its shard did not arrive in time.
    """
    directory = Path(settings.directory)
    partial = layout.partial_path(directory, request.step, settings.run)
    try:
        _check_space(directory, request, settings)
        partial.mkdir(exist_ok=True)
        _write_shard(partial, request, settings, memory)
        if settings.rank == 0:
            _commit(partial, request.step, _collect_entries(partial, settings), settings)
    except (OSError, CheckpointNotCommitted):
        _abandon(partial, settings)
        raise


def _check_space(directory: Path, request: WriteRequest, settings: WriterSettings) -> None:
    """Raise unless the drive has room, before anything is written; rank 0 looks for the room of all ranks.

    Raises:
        OSError: It has not; the message has both sizes.
    """
    needed = (request.bytes + len(request.values)) * (settings.world if settings.rank == 0 else 1)
    free = shutil.disk_usage(directory).free
    if free < needed:
        reason = (
            f"No space left on device: {free / 1e6:.1f} MB are free, and the checkpoint needs {needed / 1e6:.1f} MB"
        )
        raise OSError(errno.ENOSPC, reason, str(directory))


def _write_shard(partial: Path, request: WriteRequest, settings: WriterSettings, memory: memoryview) -> None:
    """Write the two files of this rank, then its part of the manifest."""
    names = (shard_name(settings.rank, settings.world, suffix) for suffix in (TENSORS, VALUES, PART, FAILED))
    tensors, values, part, failed = names
    for name in (failed, part, tensors, values):  # left by an earlier attempt at the same step
        (partial / name).unlink(missing_ok=True)
    content = request.values.encode()
    entries = {
        tensors: ManifestEntry(
            request.bytes,
            disk.write_pages(partial / tensors, memory, request.bytes, disk.rate_limiter(settings.bytes_per_second)),
        ),
        values: ManifestEntry(len(content), disk.write(partial / values, content)),
    }
    new_file = partial / f"{part}.new"
    new_file.unlink(missing_ok=True)
    disk.write(new_file, json.dumps({name: asdict(entry) for name, entry in entries.items()}).encode())
    new_file.rename(partial / part)


def _collect_entries(partial: Path, settings: WriterSettings) -> dict[str, ManifestEntry]:
    """Wait for all shards and return their entries."""
    entries: dict[str, ManifestEntry] = {}
    for rank in range(settings.world):
        part = partial / shard_name(rank, settings.world, PART)
        failed = partial / shard_name(rank, settings.world, FAILED)
        for _ in _poll(settings, f"the shard of rank {rank}"):
            if failed.exists():
                raise CheckpointNotCommitted(f"rank {rank} could not write its shard, and reports the reason")
            if part.exists():
                break
        values = parse_object(read_file(part))
        entries |= {name: manifest.parse_entry(entry) for name, entry in values.items()}
        part.unlink()
    return entries


def _commit(partial: Path, step: int, entries: Mapping[str, ManifestEntry], settings: WriterSettings) -> None:
    """Write the manifest, and give the checkpoint its name when all of it is on the drive."""
    directory, name = Path(settings.directory), layout.step_name(step)
    disk.write(partial / manifest.NAME, manifest.render(Manifest(step, settings.world, entries)))
    fsync_directory(partial)
    replaced = directory / f".{name}.replaced"
    if (directory / name).exists():  # damaged, or of a run that resumed earlier: the last one counts
        (directory / name).rename(replaced)
    partial.rename(directory / name)
    fsync_directory(directory)
    shutil.rmtree(replaced, ignore_errors=True)
    for path, other, state in layout.incomplete_entries(directory):
        if state == "partial" and other < name:  # abandoned: every rank is past this step
            shutil.rmtree(path, ignore_errors=True)


def _poll(settings: WriterSettings, what: str) -> Any:
    """Yield at each poll until the time limit for *what* is over or the training process has ended."""
    deadline, parent = time.monotonic() + settings.shards_seconds, os.getppid()
    yield
    while time.monotonic() < deadline and os.getppid() == parent:
        time.sleep(_POLL_SECONDS)
        yield
    raise CheckpointNotCommitted(f"waited for {what} for {settings.shards_seconds:.0f} s, or until the training ended")


def _abandon(partial: Path, settings: WriterSettings) -> None:
    """Delete this rank's files, and report the failure to rank 0."""
    if settings.rank == 0:
        shutil.rmtree(partial, ignore_errors=True)
        return
    with suppress(OSError):  # the caller reports the original error
        (partial / shard_name(settings.rank, settings.world, FAILED)).touch()
        for suffix in (TENSORS, VALUES):
            (partial / shard_name(settings.rank, settings.world, suffix)).unlink(missing_ok=True)


def print_message(text: str) -> None:
    print(f"checkpoint: {text}", file=sys.stderr, flush=True)


def serve(settings: WriterSettings) -> None:
    """Process requests until stdin ends."""
    directory = Path(settings.directory)
    size = os.fstat(settings.memory).st_size
    memory = memoryview(mmap.mmap(settings.memory, size, prot=mmap.PROT_READ))
    for line in sys.stdin:
        request = WriteRequest(**json.loads(line))
        began = time.monotonic()
        try:
            persist(request, settings, memory)
        except (OSError, CheckpointNotCommitted) as error:
            why = f"{error.filename or directory}: {error.strerror}" if isinstance(error, OSError) else str(error)
            print_message(
                f"STEP {request.step} IS NOT SAVED: {why}; the training continues, and the next save tries again"
            )
            _send_reply({"step": request.step, "failure": why})
            continue
        _send_reply({"step": request.step, "seconds": time.monotonic() - began})
        if settings.rank == 0:
            try:
                retention.prune(directory, settings.keep_last, settings.keep_every, print_message)
            except OSError as error:
                print_message(f"old checkpoints were not removed: {error.filename}: {error.strerror}")


def _send_reply(reply: Mapping[str, Any]) -> None:
    with suppress(BrokenPipeError):  # the training has ended
        os.write(sys.stdout.fileno(), json.dumps(reply).encode() + b"\n")


def main(settings: str) -> None:
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
    os.nice(10)  # below the training, but not starved by it: until this process is done there is no checkpoint
    serve(WriterSettings(**json.loads(settings)))
