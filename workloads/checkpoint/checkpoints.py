"""Saving, selecting and loading of the checkpoints of a run."""

import fcntl
import os
import shutil
import time
import uuid
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self, cast

from workloads.checkpoint import layout, manifest, retention, tree
from workloads.checkpoint.layout import TENSORS, VALUES, shard_name
from workloads.checkpoint.manifest import CheckpointDamaged, Manifest
from workloads.checkpoint.persist import WriteRequest, WriterSettings, print_message
from workloads.checkpoint.snapshot import Snapshot, build_header
from workloads.checkpoint.writer import Writer
from workloads.errors import Diagnostic, UserError
from workloads.foreign import read_whole

FINITE_NUMBERS = 1 << 20
"""Numbers that are judged at a time."""
NOTICEABLE_SECONDS = 0.1
"""Wait for an earlier checkpoint from which a message reports it."""


class CheckpointRequestError(UserError):
    """A request that a directory of checkpoints cannot fulfil, or that would lose or mix data."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A committed checkpoint."""

    path: Path
    manifest: Manifest
    verified_files: frozenset[str] = field(default=frozenset(), compare=False)
    """Names of files whose digests have been compared."""

    @property
    def step(self) -> int:
        """Optimizer steps taken before the checkpoint."""
        return self.manifest.step


def newest(directory: Path, flaw: Callable[[Checkpoint], str] = lambda checkpoint: "") -> Checkpoint | None:
    """Return the newest intact checkpoint in *directory*; None if there is none.

    Damaged checkpoints are skipped, each with a warning on stderr. The function reads whole checkpoints, so in a group
    of ranks one calls it and sends the step to the others, which call `at_step`.

    Args:
        flaw: Function that returns the reason to skip an intact checkpoint; empty for none.
    """
    for step in reversed(layout.steps(directory)):
        try:
            checkpoint = at_step(directory, step)
            manifest.verify(checkpoint.path, checkpoint.manifest)
        except CheckpointDamaged as damage:
            print_message(f"SKIPPED: {damage}")
            continue
        if reason := flaw(checkpoint):
            print_message(f"SKIPPED: {checkpoint.path}: {reason}")
            continue
        return Checkpoint(checkpoint.path, checkpoint.manifest, frozenset(checkpoint.manifest.files))
    return None


def verify_shards(checkpoint: Checkpoint, ranks: Iterable[int] | None = None) -> None:
    """Raise unless the files of the shards *ranks*, by default of all, match the manifest.

    Raises:
        CheckpointDamaged: A file differs; the message names each such file.
    """
    manifest.verify(checkpoint.path, checkpoint.manifest, _shard_files(checkpoint, ranks) - checkpoint.verified_files)


def not_finite(checkpoint: Checkpoint, ranks: Iterable[int] | None = None) -> str:
    """Return which tensor of the shards *ranks* has a number that is not finite, as a clause; empty for none."""
    import torch
    from safetensors import safe_open

    for file_name in sorted(name for name in _shard_files(checkpoint, ranks) if name.endswith(TENSORS)):
        with safe_open(checkpoint.path / file_name, "pt") as file:
            for name in file.keys():  # noqa: SIM118  # it is no mapping
                # in parts: the whole tensor would need memory for the result
                parts = file.get_tensor(name).flatten().split(FINITE_NUMBERS)
                if not all(torch.isfinite(part).all() for part in parts):
                    return f"{name} in {file_name} has numbers that are not finite"
    return ""


def _shard_files(checkpoint: Checkpoint, ranks: Iterable[int] | None) -> set[str]:
    world = checkpoint.manifest.world
    chosen = range(world) if ranks is None else ranks
    return {shard_name(rank, world, each) for rank in chosen for each in (TENSORS, VALUES)}


def at_step(directory: Path, step: int) -> Checkpoint:
    """Return the checkpoint of *step*; `load` verifies its files.

    Raises:
        CheckpointDamaged: The checkpoint is missing, or its manifest is damaged.
    """
    path = directory / layout.step_name(step)
    return Checkpoint(path, manifest.read(path))


def load(checkpoint: Checkpoint, rank: int = 0, world: int = 1) -> dict[str, Any]:
    """Return the state that *rank* of *world* saved, with its tensors in CPU memory.

    Raises:
        CheckpointDamaged: A file differs from the manifest.
        CheckpointRequestError: Another number of ranks saved the checkpoint.
    """
    saved = checkpoint.manifest.world
    if saved != world:
        problem, expected = (
            f"the checkpoint is in {saved} {'shard' if saved == 1 else 'shards'}",
            f"one shard for each of this run's ranks: {world}",
        )
        help = f"Start the run with {saved} ranks, or merge the shards first"
        raise CheckpointRequestError(Diagnostic(str(checkpoint.path), problem, expected, help))
    tensors, values = shard_name(rank, world, TENSORS), shard_name(rank, world, VALUES)
    manifest.verify(checkpoint.path, checkpoint.manifest, {tensors, values} - checkpoint.verified_files)

    def load_tensors() -> Mapping[str, Any]:
        from safetensors.torch import load_file

        return cast(Mapping[str, Any], load_file(checkpoint.path / tensors))

    return tree.restore_state(read_whole(checkpoint.path / values), load_tensors)


class Checkpoints:
    """The checkpoints of one run in one directory, written by a background process of low priority.

    All ranks of *world* save at the same steps, each its own part, to the same directory; rank 0 commits when all
    parts exist. If all ranks have the same state, one of them saves it, as rank 0 of 1.
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
        """Lock the directory, and remove incomplete files of earlier runs.

        Args:
            keep_last: Number of newest checkpoints to keep.
            keep_every: Checkpoints at multiples of this step are also kept.
            run: Identifier of this start, the same on all ranks and different at each start, so that parts of two
                attempts at one step are never mixed; required for more than one rank.
            bytes_per_second: Limit of the write rate, for a drive or a network with other users.
            shards_seconds: Time limit for the parts of the other ranks.
            lock_seconds: Time limit for the background process of a killed run, which finishes its checkpoint first.

        Raises:
            CheckpointRequestError: The directory is in use, or *run* is missing.
            ValueError: A number is out of range.
            OSError: The directory cannot be created.
        """
        retention.steps_to_keep((), keep_last, keep_every)
        if not 0 <= rank < world:
            raise ValueError(f"rank {rank} of {world}")
        if world > 1 and not run:
            raise CheckpointRequestError(
                Diagnostic(
                    "run",
                    "the identifier of the run is missing",
                    f"one identifier for all {world} ranks",
                    "Create one on rank 0, and broadcast it",
                )
            )
        self.directory = directory.absolute()
        self.directory.mkdir(parents=True, exist_ok=True)
        self.rank, self.world = rank, world
        self.committed: int | None = None
        """Last step that this run has committed, as of the last call of `save` or `wait`; on ranks other than 0, the
        last step whose part of this rank is on the drive."""
        self.failure = ""
        """Reason why the last save failed; empty if it succeeded."""
        self._settings = (run or uuid.uuid4().hex, keep_last, keep_every, bytes_per_second, shards_seconds)
        self._lock = _acquire_lock(self.directory, rank, lock_seconds)
        self._snapshot: Snapshot | None = None
        self._writer: Writer | None = None
        self._pending_step: int | None = None
        self._seconds = 0.0
        if rank == 0:
            retention.clean_up(self.directory, self._settings[0])

    def prepare(self, state: Mapping[str, Any]) -> None:
        """Allocate the memory for states like this one before the first save.

        Raises:
            BadState: A checkpoint cannot hold the state; the message names the value and its place.
            OSError: There is not enough memory.
        """
        _, tensors = tree.flatten_state(state)
        self._allocate(tensors)

    def save(self, step: int, state: Mapping[str, Any]) -> None:
        """Take a snapshot of *state*, which the background process writes while the training continues.

        If the previous snapshot is not written yet, wait for it and print a message. A write error is printed on
        stderr and stored in `failure`; the training continues.

        Raises:
            BadState: A checkpoint cannot hold the state.
        """
        if self._pending_step is not None and not self._poll_writer(0):
            began, before = time.monotonic(), self._pending_step
            self.wait()
            waited = time.monotonic() - began
            if waited >= NOTICEABLE_SECONDS:
                print_message(f"step {step} waited {waited:.1f} s until step {before} was written; save less often")
        values, tensors = tree.flatten_state(state)
        try:
            snapshot, writer = self._allocate(tensors)
            snapshot.fill(tensors)
            writer.submit(WriteRequest(step, snapshot.bytes, values))
        except OSError as error:
            self._report_failure(step, str(error))
        else:
            self._pending_step = step

    def _allocate(self, tensors: Mapping[str, Any]) -> tuple[Snapshot, Writer]:
        head, offsets = build_header(tensors)
        if self._snapshot is None or self._writer is None or self._snapshot.head != head:
            self._release()
            run, keep_last, keep_every, rate, shards = self._settings
            self._snapshot = Snapshot(head, offsets, tensors)
            memory = self._snapshot.descriptor
            where = str(self.directory)
            settings = WriterSettings(where, self.rank, self.world, run, keep_last, keep_every, memory, rate, shards)
            self._writer = Writer(settings, self._lock)
        return self._snapshot, self._writer

    def wait(self, timeout_seconds: float | None = None) -> bool:
        """Wait for the last save; return whether it succeeded, False also after *timeout_seconds*."""
        return self._poll_writer(timeout_seconds) and not self.failure

    def _poll_writer(self, timeout_seconds: float | None) -> bool:
        """Return whether no save is pending, after reading a reply of the background process."""
        if self._pending_step is None:
            return True
        assert self._writer
        answer = self._writer.wait_for_reply(timeout_seconds)
        if answer is None:
            return False
        step, self._pending_step = self._pending_step, None
        if "failure" in answer:
            self.failure = answer["failure"]
            if "step" not in answer:  # the background process died without a message
                self._report_failure(step, answer["failure"])
        else:
            self.committed, self.failure, self._seconds = step, "", answer["seconds"]
        return True

    def _report_failure(self, step: int, why: str) -> None:
        self.failure = why
        print_message(f"STEP {step} IS NOT SAVED: {why}; the training continues, and the next save tries again")

    def save_within(self, seconds: float, step: int, state: Mapping[str, Any]) -> int | None:
        """Save within *seconds* before the power goes, and return the last committed step: *step*, or an earlier one.

        A pending save is finished first. A new snapshot starts only if the duration of the previous save fits in the
        remaining time, as a partial checkpoint is useless.
        """
        deadline = time.monotonic() + seconds
        if not self._poll_writer(seconds):
            print_message(f"step {self._pending_step} was not written within {seconds:.0f} s; no time for step {step}")
        elif self.committed == step:
            return step
        elif (left := deadline - time.monotonic()) < self._seconds:
            print_message(
                f"no time to save step {step}: {left:.1f} s are left, and the last one took {self._seconds:.1f} s"
            )
        else:
            self.save(step, state)
            if not self._poll_writer(deadline - time.monotonic()):
                print_message(f"step {step} was not written within {seconds:.0f} s")
        return self.committed

    def newest(self, flaw: Callable[[Checkpoint], str] = lambda checkpoint: "") -> Checkpoint | None:
        """Return the newest intact checkpoint without a *flaw*; see the function `newest`.

        Newer ones with a flaw get another name, so that they do not count among the kept checkpoints.
        """

        def set_aside(checkpoint: Checkpoint) -> str:
            reason = flaw(checkpoint)
            return f"{reason}; it is now {self.set_aside(checkpoint.step)}" if reason else ""

        return newest(self.directory, set_aside)

    def steps(self) -> list[int]:
        """Return the steps of all committed checkpoints, oldest first, damaged ones included."""
        return layout.steps(self.directory)

    def set_aside(self, step: int) -> str:
        """Give the checkpoint of *step* another name, under which it does not count, and return that name."""
        path = self.directory / layout.step_name(step)
        aside = layout.set_aside_path(path)
        shutil.rmtree(aside, ignore_errors=True)
        path.rename(aside)
        return aside.name

    def at_step(self, step: int) -> Checkpoint:
        """Return the checkpoint of *step*; see the function `at_step`."""
        return at_step(self.directory, step)

    def load(self, checkpoint: Checkpoint) -> dict[str, Any]:
        """Return the state that this rank saved; see the function `load`."""
        return load(checkpoint, self.rank, self.world)

    def _release(self) -> None:
        if self._writer:
            self._poll_writer(None)
            self._writer.close()
        if self._snapshot:
            self._snapshot.close()
        self._writer = self._snapshot = None

    def close(self) -> None:
        """Finish the pending save, and release the memory and the directory. A second call does nothing."""
        if self._lock >= 0:
            self._release()
            os.close(self._lock)
            self._lock = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


def _acquire_lock(directory: Path, rank: int, seconds: float) -> int:
    """Return a descriptor that holds the lock of *rank*; the kernel frees it when all its processes have ended."""
    path = layout.lock_path(directory, rank)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    deadline, is_reported = time.monotonic() + seconds, False
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                os.close(descriptor)
                problem = f"another process has held {path.name} for {seconds:.0f} s"
                expected, help = "one training for each directory", "Stop the other training, or use another directory"
                raise CheckpointRequestError(Diagnostic(str(directory), problem, expected, help)) from None
            if not is_reported:
                print_message(f"{directory} is in use by another run, or by an earlier one that still writes; waiting")
                is_reported = True
            time.sleep(0.1)
        else:
            return descriptor
