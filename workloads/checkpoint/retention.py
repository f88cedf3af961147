"""Which checkpoints stay."""

import shutil
from collections.abc import Callable, Collection
from pathlib import Path

from workloads.checkpoint import disk, layout, manifest
from workloads.checkpoint.manifest import Damaged


def kept(steps: Collection[int], last: int, every: int | None) -> set[int]:
    """Return those of *steps* that stay: the newest *last*, and each that is a multiple of *every*.

    Raises:
        ValueError: *last* or *every* is below 1.
    """
    if last < 1 or (every is not None and every < 1):
        raise ValueError(f"keep_last {last}, keep_every {every}: both are at least 1, or keep_every is not given")
    return set(sorted(steps)[-last:]) | {step for step in steps if every and step % every == 0}


def prune(
    directory: Path, last: int, every: int | None, say: Callable[[str], None], proved: Collection[int] = ()
) -> list[int]:
    """Remove the checkpoints that need not stay, and return their steps.

    One goes only while a newer one that stays has been read back from the drive and found whole. So whatever else is
    damaged, the newest good one is never removed.

    Args:
        proved: Steps that have been read back already.
    """
    steps = layout.steps(directory)
    staying = kept(steps, last, every)
    doomed = [step for step in steps if step not in staying]
    good = next(
        (s for s in sorted(staying, reverse=True) if doomed and s > doomed[0] and _good(directory, s, proved, say)), 0
    )
    removed = [step for step in doomed if step < good]
    for step in removed:
        remove(directory, step)
    return removed


def _good(directory: Path, step: int, proved: Collection[int], say: Callable[[str], None]) -> bool:
    if step in proved:
        return True
    try:
        where = directory / layout.step_name(step)
        manifest.prove(where, manifest.read(where), from_drive=True)
    except Damaged as damage:
        say(f"not counted as kept: {damage}")
        return False
    return True


def remove(directory: Path, step: int) -> None:
    """Remove one checkpoint: it is none from the first moment on. One that is gone already is no error."""
    name = layout.step_name(step)
    leaving = directory / f".{name}.removing"
    try:
        (directory / name).rename(leaving)
    except FileNotFoundError:
        return
    disk.fsync_directory(directory)
    shutil.rmtree(leaving, ignore_errors=True)  # what is left of it goes when the next run starts


def tidy(directory: Path, run: str) -> None:
    """Remove what earlier runs left unfinished; whatever was whole and stood aside comes back where it is missing."""
    for path, name, state in layout.unfinished(directory):
        if state == "replaced" and not (directory / name).exists():
            path.rename(directory / name)
        elif not path.name.endswith(f".{run}.partial"):
            shutil.rmtree(path, ignore_errors=True)
    disk.fsync_directory(directory)
