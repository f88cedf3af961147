"""The process that brings snapshots to the drive, at the lowest priority. Standard library only; needs no torch.

It gets its settings as an argument, an order a line on stdin, and answers each with a line on stdout: the step is
committed, or why it is not. When stdin ends, it finishes what it has been told, also where the training was killed.
SIGTERM and SIGINT are for the training, which decides what is still to be saved; it ignores them.

Hashing in a thread of the training process would slow the steps meanwhile to a third and less on two cores.
"""

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
from workloads.checkpoint.manifest import Entry, Manifest

_POLL_SECONDS = 0.05


@dataclass(frozen=True, slots=True)
class Settings:
    """What does not change between two checkpoints."""

    directory: str
    rank: int
    world: int
    run: str
    """Names this start of the training; the same on all ranks, and another at each start."""
    keep_last: int
    keep_every: int | None
    memory: int
    """Descriptor of the snapshot's memory."""
    bytes_per_second: float | None
    shards_seconds: float
    """How long to wait for the shards of the other ranks."""


@dataclass(frozen=True, slots=True)
class Order:
    """One snapshot to be written."""

    step: int
    bytes: int
    values: str


class NotCommitted(Exception):
    """A checkpoint that has not come about; says why."""


def persist(order: Order, settings: Settings, memory: memoryview) -> None:
    """Write this rank's shard; as rank 0 also commit the checkpoint, once all shards are there.

    Raises:
        OSError: a file could not be written.
        NotCommitted: it was not this rank.
    """
    directory = Path(settings.directory)
    partial = layout.partial(directory, order.step, settings.run)
    try:
        partial.mkdir(exist_ok=True)
        _write_shard(partial, order, settings, memory)
        if settings.rank == 0:
            _commit(partial, order.step, _gather(partial, settings), settings)
    except (OSError, NotCommitted):
        _give_up(partial, settings)
        raise


def _write_shard(partial: Path, order: Order, settings: Settings, memory: memoryview) -> None:
    """Write the two files of this rank, then the part of the manifest that says so."""
    names = (shard_name(settings.rank, settings.world, suffix) for suffix in (TENSORS, VALUES, PART, FAILED))
    tensors, values, part, failed = names
    for name in (failed, part, tensors, values):  # of an earlier try at the same step
        (partial / name).unlink(missing_ok=True)
    content = order.values.encode()
    entries = {
        tensors: Entry(
            order.bytes,
            disk.write_pages(partial / tensors, memory, order.bytes, disk.limiter(settings.bytes_per_second)),
        ),
        values: Entry(len(content), disk.write(partial / values, content)),
    }
    beside = partial / f"{part}.new"
    beside.unlink(missing_ok=True)
    disk.write(beside, json.dumps({name: asdict(entry) for name, entry in entries.items()}).encode())
    beside.rename(partial / part)


def _gather(partial: Path, settings: Settings) -> dict[str, Entry]:
    """Return the entries of all shards, when the last of them is there."""
    entries: dict[str, Entry] = {}
    for rank in range(settings.world):
        part = partial / shard_name(rank, settings.world, PART)
        failed = partial / shard_name(rank, settings.world, FAILED)
        for _ in _patience(settings, f"the shard of rank {rank}"):
            if failed.exists():
                raise NotCommitted(f"rank {rank} could not write its shard, and says why")
            if part.exists():
                break
        told = json.loads(part.read_bytes())
        entries |= {name: manifest.parse_entry(entry) for name, entry in told.items()}
        part.unlink()
    return entries


def _commit(partial: Path, step: int, entries: Mapping[str, Entry], settings: Settings) -> None:
    """Give the checkpoint its name, once everything in it is on the drive."""
    directory, name = Path(settings.directory), layout.step_name(step)
    disk.write(partial / manifest.NAME, manifest.render(Manifest(step, settings.world, entries)))
    disk.fsync_directory(partial)
    replaced = directory / f".{name}.replaced"
    if (directory / name).exists():  # damaged, or of a run that has gone back: the one that was taken last counts
        (directory / name).rename(replaced)
    partial.rename(directory / name)
    disk.fsync_directory(directory)
    shutil.rmtree(replaced, ignore_errors=True)
    for path, other, state in layout.unfinished(directory):
        if state == "partial" and other < name:  # given up; every rank has come further since
            shutil.rmtree(path, ignore_errors=True)


def _patience(settings: Settings, what: str) -> Any:
    """Yield until the time for *what* is over, or the training process is gone."""
    deadline, parent = time.monotonic() + settings.shards_seconds, os.getppid()
    yield
    while time.monotonic() < deadline and os.getppid() == parent:
        time.sleep(_POLL_SECONDS)
        yield
    raise NotCommitted(f"waited for {what} for {settings.shards_seconds:.0f} s, or until the training ended")


def _give_up(partial: Path, settings: Settings) -> None:
    """Make room on the drive, and let rank 0 know."""
    if settings.rank == 0:
        shutil.rmtree(partial, ignore_errors=True)
        return
    with suppress(OSError):  # the one that led here is told
        (partial / shard_name(settings.rank, settings.world, FAILED)).touch()
        for suffix in (TENSORS, VALUES):
            (partial / shard_name(settings.rank, settings.world, suffix)).unlink(missing_ok=True)


def say(text: str) -> None:
    print(f"checkpoint: {text}", file=sys.stderr, flush=True)


def serve(settings: Settings) -> None:
    """Follow orders until stdin ends."""
    directory = Path(settings.directory)
    size = os.fstat(settings.memory).st_size
    memory = memoryview(mmap.mmap(settings.memory, size, prot=mmap.PROT_READ))
    for line in sys.stdin:
        order = Order(**json.loads(line))
        began = time.monotonic()
        try:
            persist(order, settings, memory)
        except (OSError, NotCommitted) as error:
            why = f"{error.filename or directory}: {error.strerror}" if isinstance(error, OSError) else str(error)
            say(f"STEP {order.step} IS NOT SAVED: {why}; the training goes on, and the next save tries again")
            _answer({"step": order.step, "failure": why})
            continue
        _answer({"step": order.step, "seconds": time.monotonic() - began})
        if settings.rank == 0:
            try:
                retention.prune(directory, settings.keep_last, settings.keep_every, say)
            except OSError as error:
                say(f"older ones stay: {error.filename}: {error.strerror}")


def _answer(told: Mapping[str, Any]) -> None:
    with suppress(BrokenPipeError):  # the training is gone
        os.write(sys.stdout.fileno(), json.dumps(told).encode() + b"\n")


def main(settings: str) -> None:
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
    os.nice(10)  # it gives way to the training, and is not starved by it: until it is done there is no checkpoint
    serve(Settings(**json.loads(settings)))
