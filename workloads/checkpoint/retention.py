"""Selection and removal of old checkpoints."""

import shutil
from collections.abc import Callable, Collection
from pathlib import Path

from workloads.checkpoint import layout, manifest
from workloads.checkpoint.manifest import CheckpointDamaged
from workloads.files import fsync_directory


def steps_to_keep(steps: Collection[int], last: int, every: int | None) -> set[int]:
    """Return the *steps* to keep: the newest *last*, and each multiple of *every*.

    Raises:
        ValueError: *last* or *every* is below 1.
    """
    if last < 1 or (every is not None and every < 1):
        raise ValueError(f"keep_last {last}, keep_every {every}: both must be at least 1, or keep_every absent")
    return set(sorted(steps)[-last:]) | {step for step in steps if every and step % every == 0}


def prune(
    directory: Path, last: int, every: int | None, progress: Callable[[str], None], verified: Collection[int] = ()
) -> list[int]:
    """Remove the checkpoints that are not kept, and return their steps.

    A checkpoint is removed only if a newer one that stays has been read back from the drive and is intact. So the
    newest intact checkpoint is never removed.

    Args:
        verified: Steps that have been read back already.
    """
    steps = layout.steps(directory)
    keep = steps_to_keep(steps, last, every)
    surplus = [step for step in steps if step not in keep]
    intact = next(
        (
            s
            for s in sorted(keep, reverse=True)
            if surplus and s > surplus[0] and _is_intact(directory, s, verified, progress)
        ),
        0,
    )
    removed = [step for step in surplus if step < intact]
    for step in removed:
        remove(directory, step)
    return removed


def _is_intact(directory: Path, step: int, verified: Collection[int], progress: Callable[[str], None]) -> bool:
    if step in verified:
        return True
    try:
        where = directory / layout.step_name(step)
        manifest.verify(where, manifest.read(where), from_drive=True)
    except CheckpointDamaged as damage:
        progress(f"not counted among the kept checkpoints: {damage}")
        return False
    return True


def remove(directory: Path, step: int) -> None:
    """Remove one checkpoint, which a rename hides first. A missing checkpoint is not an error."""
    name = layout.step_name(step)
    hidden = directory / f".{name}.removing"
    try:
        (directory / name).rename(hidden)
    except FileNotFoundError:
        return
    fsync_directory(directory)
    shutil.rmtree(hidden, ignore_errors=True)  # the next run removes any remaining files


def clean_up(directory: Path, run: str) -> None:
    """Remove incomplete entries of earlier runs; restore a replaced checkpoint whose replacement is missing."""
    for path, name, state in layout.incomplete_entries(directory):
        if state == "replaced" and not (directory / name).exists():
            path.rename(directory / name)
        elif not path.name.endswith(f".{run}.partial"):
            shutil.rmtree(path, ignore_errors=True)
    fsync_directory(directory)
