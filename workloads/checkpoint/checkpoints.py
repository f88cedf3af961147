"""Checkpoints of a running training, and how one is found and loaded again."""

import fcntl
import os
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self, cast

from workloads.checkpoint import layout, manifest, retention, tree
from workloads.checkpoint.layout import TENSORS, VALUES, shard_name
from workloads.checkpoint.manifest import Damaged, Manifest
from workloads.checkpoint.persist import Order, Settings, say
from workloads.checkpoint.snapshot import Snapshot, header
from workloads.checkpoint.writer import Writer
from workloads.errors import WorkloadError


class Refused(WorkloadError):
    """A use of a directory of checkpoints that would lose something or mix things up."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A committed checkpoint."""

    path: Path
    manifest: Manifest
    proved: frozenset[str] = field(default=frozenset(), compare=False)
    """Those of its files whose digests have been compared."""

    @property
    def step(self) -> int:
        """Optimizer steps done when it was taken."""
        return self.manifest.step


def newest(directory: Path) -> Checkpoint | None:
    """Return the newest checkpoint in *directory* whose every file is as it was written; None where there is none.

    Those that are not are skipped, each with a warning on stderr. This reads all of a checkpoint: of many ranks, one
    asks and tells the others the step, for `at`.
    """
    for step in reversed(layout.steps(directory)):
        try:
            found = at(directory, step)
            manifest.prove(found.path, found.manifest)
        except Damaged as damage:
            say(f"SKIPPED: {damage}")
            continue
        return Checkpoint(found.path, found.manifest, frozenset(found.manifest.files))
    return None


def at(directory: Path, step: int) -> Checkpoint:
    """Return the checkpoint of *step*, its files not looked at yet: `load` does.

    Raises:
        Damaged: there is none, or its manifest is not whole.
    """
    path = directory / layout.step_name(step)
    return Checkpoint(path, manifest.read(path))


def load(checkpoint: Checkpoint, rank: int = 0, world: int = 1) -> dict[str, Any]:
    """Return the state that *rank* of *world* has saved, its tensors in the memory of the CPU.

    Raises:
        Damaged: its files are not as they were written.
        Refused: it was saved by another number of ranks.
    """
    saved = checkpoint.manifest.world
    if saved != world:
        got, want = f"it has {saved} shards", f"this run has {world}"
        raise Refused(str(checkpoint.path), got, want, f"Start with {saved} ranks, or bring the shards together first")
    tensors, values = shard_name(rank, world, TENSORS), shard_name(rank, world, VALUES)
    manifest.prove(checkpoint.path, checkpoint.manifest, {tensors, values} - checkpoint.proved)

    def loaded() -> Mapping[str, Any]:
        from safetensors.torch import load_file

        return cast(Mapping[str, Any], load_file(checkpoint.path / tensors))

    return tree.put_together((checkpoint.path / values).read_bytes(), loaded)


class Checkpoints:
    """The checkpoints of one training in one directory, written in the background by a process of low priority.

    All ranks of *world* save at the same steps, each its own part, into the same directory; rank 0 commits when all
    parts are there. Where all ranks have the same state, one of them saves it, as rank 0 of 1.
    """

    def __init__(
        self,
        directory: Path,
        *,
        keep_last: int = 3,
        keep_every: int | None = None,
        rank: int = 0,
        world: int = 1,
        run: str = "",
        bytes_per_second: float | None = None,
        shards_seconds: float = 600,
        lock_seconds: float = 600,
    ) -> None:
        """Take the directory, and clear away what an earlier run has left half-done.

        Args:
            keep_last: How many of the newest stay.
            keep_every: Those whose steps are multiples of it stay as well.
            run: With more than one rank, a word that all of them have and no earlier start had: parts of two attempts
                at one step are never mixed.
            bytes_per_second: Limit to writing, for a drive or a network that others use too.
            shards_seconds: How long a rank waits for the parts of the others.
            lock_seconds: How long to wait for the process of a killed run that still finishes its checkpoint.

        Raises:
            Refused: the directory is in use, or *run* is missing.
            ValueError: the numbers make no sense.
            OSError: the directory cannot be made.
        """
        retention.kept((), keep_last, keep_every)
        if not 0 <= rank < world:
            raise ValueError(f"rank {rank} of {world}")
        if world > 1 and not run:
            raise Refused("run", "got none", f"{world} ranks share one", "Let rank 0 draw one, and broadcast it")
        self.directory = directory.absolute()
        self.directory.mkdir(parents=True, exist_ok=True)
        self.rank, self.world = rank, world
        self.committed: int | None = None
        """The last step that this run has brought to the drive, as far as `save` and `wait` have heard; on other ranks
        than 0, the last of which this rank's part is there."""
        self.failure = ""
        """Why the last save has failed, if it has."""
        self._settings = (run or uuid.uuid4().hex, keep_last, keep_every, bytes_per_second, shards_seconds)
        self._lock = _locked(self.directory, rank, lock_seconds)
        self._snapshot: Snapshot | None = None
        self._writer: Writer | None = None
        self._under_way: int | None = None
        self._seconds = 0.0
        if rank == 0:
            retention.tidy(self.directory, self._settings[0])

    def prepare(self, state: Mapping[str, Any]) -> None:
        """Take the memory for states like this one before the first of them is saved.

        Raises:
            BadState: a checkpoint cannot hold it; says what, and where.
            OSError: there is no memory for it.
        """
        _, tensors = tree.take_apart(state)
        self._room(tensors)

    def save(self, step: int, state: Mapping[str, Any]) -> None:
        """Take a snapshot of *state*, and let it be written while the training goes on.

        Waits first where the snapshot before is not written yet, and says so. Whatever goes wrong with the writing is
        told on stderr and stands in `failure`; the training goes on.

        Raises:
            BadState: a checkpoint cannot hold it.
        """
        if self._under_way is not None and not self._hear(0):
            began, before = time.monotonic(), self._under_way
            self.wait()
            waited = time.monotonic() - began
            say(f"step {step} waited {waited:.1f} s until step {before} was written; save less often")
        values, tensors = tree.take_apart(state)
        try:
            snapshot, writer = self._room(tensors)
            snapshot.fill(tensors)
            writer.order(Order(step, snapshot.bytes, values))
        except OSError as error:
            self._failed(step, str(error))
        else:
            self._under_way = step

    def _room(self, tensors: Mapping[str, Any]) -> tuple[Snapshot, Writer]:
        head, offsets = header(tensors)
        if self._snapshot is None or self._writer is None or self._snapshot.head != head:
            self._let_go()
            run, keep_last, keep_every, rate, shards = self._settings
            self._snapshot = Snapshot(head, offsets, tensors)
            memory = self._snapshot.descriptor
            where = str(self.directory)
            settings = Settings(where, self.rank, self.world, run, keep_last, keep_every, memory, rate, shards)
            self._writer = Writer(settings, self._lock)
        return self._snapshot, self._writer

    def wait(self, timeout_seconds: float | None = None) -> bool:
        """Return when the last save is over: whether it has gone well. False, too, where the time is over."""
        return self._hear(timeout_seconds) and not self.failure

    def _hear(self, timeout_seconds: float | None) -> bool:
        """Return whether nothing is under way any more."""
        if self._under_way is None:
            return True
        assert self._writer
        answer = self._writer.answer(timeout_seconds)
        if answer is None:
            return False
        step, self._under_way = self._under_way, None
        if "failure" in answer:
            self.failure = answer["failure"]
            if "step" not in answer:  # it could not say so itself
                self._failed(step, answer["failure"])
        else:
            self.committed, self.failure, self._seconds = step, "", answer["seconds"]
        return True

    def _failed(self, step: int, why: str) -> None:
        self.failure = why
        say(f"STEP {step} IS NOT SAVED: {why}; the training goes on, and the next save tries again")

    def save_within(self, seconds: float, step: int, state: Mapping[str, Any]) -> int | None:
        """Save what can be saved before the power goes, and return the step that is safe: *step*, or an earlier one.

        What is being written is finished first. A new snapshot is taken only where there is time for it, judged by the
        one before: half a checkpoint helps nobody.
        """
        deadline = time.monotonic() + seconds
        if not self._hear(seconds):
            say(f"step {self._under_way} was not written within {seconds:.0f} s; no time for step {step}")
        elif self.committed == step:
            return step
        elif (left := deadline - time.monotonic()) < self._seconds:
            say(f"no time to save step {step}: {left:.1f} s are left, and the last one took {self._seconds:.1f} s")
        else:
            self.save(step, state)
            if not self._hear(deadline - time.monotonic()):
                say(f"step {step} was not written within {seconds:.0f} s")
        return self.committed

    def newest(self) -> Checkpoint | None:
        """Return the newest checkpoint whose every file is as it was written; see the function of that name."""
        return newest(self.directory)

    def at(self, step: int) -> Checkpoint:
        """Return the checkpoint of *step*; see the function of that name."""
        return at(self.directory, step)

    def load(self, checkpoint: Checkpoint) -> dict[str, Any]:
        """Return the state that this rank has saved; see the function of that name."""
        return load(checkpoint, self.rank, self.world)

    def _let_go(self) -> None:
        if self._writer:
            self._hear(None)
            self._writer.close()
        if self._snapshot:
            self._snapshot.close()
        self._writer = self._snapshot = None

    def close(self) -> None:
        """Finish what is being written, and let go of the memory and the directory. Again, and nothing happens."""
        if self._lock >= 0:
            self._let_go()
            os.close(self._lock)
            self._lock = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


def _locked(directory: Path, rank: int, seconds: float) -> int:
    """Return a descriptor that holds the lock of *rank*; the kernel frees it when all who have it have ended."""
    path = layout.lock(directory, rank)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    deadline, told = time.monotonic() + seconds, False
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                os.close(descriptor)
                got = f"somebody has held {path.name} for {seconds:.0f} s"
                want, fix = "one training writes to one directory", "Stop the other one, or take another directory"
                raise Refused(str(directory), got, want, fix) from None
            if not told:
                say(f"{directory} is in use, by another training or by the last one that still writes; waiting")
                told = True
            time.sleep(0.1)
        else:
            return descriptor
