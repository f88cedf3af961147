"""Moving of checkpoints from the hot tier to the warm tier: copy, read back, then remove."""

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from workloads.checkpoint import layout, manifest, retention
from workloads.checkpoint.manifest import CheckpointDamaged, Manifest
from workloads.checkpoint.store import Store


@dataclass(frozen=True, slots=True)
class MoveResult:
    """The steps that one pass has copied, removed, or failed to move."""

    copied: list[int]
    removed: list[int]
    failed: list[int]


def move(hot: Path, warm: Store, keep_hot: int, progress: Callable[[str], None]) -> MoveResult:
    """Copy each checkpoint in *hot* that *warm* lacks, and remove all but the newest *keep_hot* from *hot*.

    A checkpoint is removed only after each file of its copy has been read back from the store in this pass and matches
    the manifest. The manifest is stored last: a copy without one is incomplete. A training may write at the same time.

    Raises:
        ValueError: *keep_hot* is below 1.
    """
    steps_to_keep = retention.steps_to_keep(layout.steps(hot), keep_hot, None)
    copied, removed, failed = [], [], []
    for step in layout.steps(hot):
        where = hot / layout.step_name(step)
        try:
            expected = manifest.read(where)
            if not _has_copy(warm, expected):
                _copy(where, expected, warm)
                copied.append(step)
            elif step not in steps_to_keep:
                _verify(warm, expected)
        except (OSError, CheckpointDamaged) as error:
            if where.exists():  # otherwise the training has removed it, as newer ones exist
                progress(f"STEP {step} IS NOT MOVED: {error}; it stays in {hot}")
                failed.append(step)
            continue
        if step not in steps_to_keep:
            retention.remove(hot, step)
            removed.append(step)
    return MoveResult(copied, removed, failed)


def _key(step: int, name: str) -> str:
    return f"{layout.step_name(step)}/{name}"


def _has_copy(store: Store, expected: Manifest) -> bool:
    """Return whether *store* has a complete copy with exactly this manifest; do not read its files."""
    with tempfile.TemporaryDirectory() as directory:
        target = Path(directory) / manifest.NAME
        try:
            store.get(_key(expected.step, manifest.NAME), target)
        except FileNotFoundError:
            return False
        return target.read_bytes() == manifest.render(expected)


def _copy(where: Path, expected: Manifest, store: Store) -> None:
    """Store one checkpoint and read it back.

    Raises:
        CheckpointDamaged: The checkpoint or its copy differs from the manifest; the copy has been removed.
    """
    store.delete(_key(expected.step, manifest.NAME))  # in case the store has another checkpoint of the same step
    try:
        flaws = [
            f"{name} differs from the manifest"
            for name, entry in sorted(expected.files.items())
            if store.put(_key(expected.step, name), where / name) != entry.sha256
        ]
        if flaws:
            raise manifest.damage_error(where, flaws)
        _verify(store, expected)
    except (OSError, CheckpointDamaged):
        for name in expected.files:
            store.delete(_key(expected.step, name))
        raise
    store.put(_key(expected.step, manifest.NAME), where / manifest.NAME)


def _verify(store: Store, expected: Manifest) -> None:
    flaws = [
        f"{name} differs when it is read back"
        for name, entry in sorted(expected.files.items())
        if store.digest(_key(expected.step, name)) != entry.sha256
    ]
    if flaws:
        raise manifest.damage_error(f"the copy of step {expected.step}", flaws)
