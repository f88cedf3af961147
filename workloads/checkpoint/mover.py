"""From the hot tier to the warm one: copied, read back, and only then no longer hot."""

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from workloads.checkpoint import layout, manifest, retention
from workloads.checkpoint.manifest import Damaged, Manifest
from workloads.checkpoint.store import Store


@dataclass(frozen=True, slots=True)
class Moved:
    """What one pass has done, as steps."""

    copied: list[int]
    removed: list[int]
    failed: list[int]


def move(hot: Path, warm: Store, keep_hot: int, say: Callable[[str], None]) -> Moved:
    """Copy every checkpoint in *hot* that *warm* has not, and remove from *hot* all but the newest *keep_hot*.

    One is removed only when each file of its copy has been read back from the store in this pass, and is as it was
    written. The manifest is stored last: a copy without one is not complete. A training may go on writing meanwhile.

    Raises:
        ValueError: *keep_hot* is below 1.
    """
    staying = retention.kept(layout.steps(hot), keep_hot, None)
    copied, removed, failed = [], [], []
    for step in layout.steps(hot):
        where = hot / layout.step_name(step)
        try:
            wanted = manifest.read(where)
            if not _holds(warm, wanted):
                _copy(where, wanted, warm)
                copied.append(step)
            elif step not in staying:
                _prove(warm, wanted)
        except (OSError, Damaged) as error:
            if where.exists():  # else the training has removed it: it has newer ones
                say(f"STEP {step} IS NOT MOVED: {error}; it stays where it is")
                failed.append(step)
            continue
        if step not in staying:
            retention.remove(hot, step)
            removed.append(step)
    return Moved(copied, removed, failed)


def _key(step: int, name: str) -> str:
    return f"{layout.step_name(step)}/{name}"


def _holds(store: Store, wanted: Manifest) -> bool:
    """Return whether *store* has a complete copy with this very manifest, its files not looked at."""
    with tempfile.TemporaryDirectory() as directory:
        target = Path(directory) / manifest.NAME
        try:
            store.get(_key(wanted.step, manifest.NAME), target)
        except FileNotFoundError:
            return False
        return target.read_bytes() == manifest.render(wanted)


def _copy(where: Path, wanted: Manifest, store: Store) -> None:
    """Store one checkpoint and read it back.

    Raises:
        Damaged: what was read there, or back from the store, is not as it was written; the copy is gone again.
    """
    store.delete(_key(wanted.step, manifest.NAME))  # of another checkpoint of the same step
    try:
        flaws = [
            f"{name} is not as it was written"
            for name, entry in sorted(wanted.files.items())
            if store.put(_key(wanted.step, name), where / name) != entry.sha256
        ]
        if flaws:
            raise manifest.damaged(where, flaws)
        _prove(store, wanted)
    except (OSError, Damaged):
        for name in wanted.files:
            store.delete(_key(wanted.step, name))
        raise
    store.put(_key(wanted.step, manifest.NAME), where / manifest.NAME)


def _prove(store: Store, wanted: Manifest) -> None:
    flaws = [
        f"{name} came back otherwise than it was written"
        for name, entry in sorted(wanted.files.items())
        if store.digest(_key(wanted.step, name)) != entry.sha256
    ]
    if flaws:
        raise manifest.damaged(f"the copy of step {wanted.step}", flaws)
