"""Names in a directory of checkpoints: what is whole has a plain name, whatever is not begins with a dot.

step-0000000200/                        one checkpoint
    manifest.json                       size and sha256 of every other file; its presence says that all are there
    shard-00000-of-00002.safetensors    the tensors of rank 0
    shard-00000-of-00002.json           its plain values, and where the tensors belong among them
.step-0000000300.RUN.partial/           being written
.step-0000000100.removing/              being removed
.step-0000000200.replaced/              whole, on its way out for another of the same step
.lock-00000                             held by whoever writes as rank 0
"""

import re
from collections.abc import Iterator
from pathlib import Path

TENSORS, VALUES, PART, FAILED = "safetensors", "json", "part", "failed"
"""Of each shard: two files that stay, and two that tell rank 0 how it went."""
_STEP = re.compile(r"step-(\d{10,})")
_HIDDEN = re.compile(r"\.(step-\d{10,})\.(?:(.+)\.)?(partial|removing|replaced)")


def step_name(step: int) -> str:
    return f"step-{step:010}"


def step_of(name: str) -> int | None:
    """Return the step that *name* is the directory of, if it is one."""
    found = _STEP.fullmatch(name)
    return int(found[1]) if found and step_name(int(found[1])) == name else None


def shard_name(rank: int, world: int, suffix: str) -> str:
    return f"shard-{rank:05}-of-{world:05}.{suffix}"


def file_names(world: int) -> set[str]:
    """Return what a checkpoint of *world* shards consists of, beside its manifest."""
    return {shard_name(rank, world, suffix) for rank in range(world) for suffix in (TENSORS, VALUES)}


def partial(directory: Path, step: int, run: str) -> Path:
    return directory / f".{step_name(step)}.{run}.partial"


def lock(directory: Path, rank: int) -> Path:
    return directory / f".lock-{rank:05}"


def steps(directory: Path) -> list[int]:
    """Return the steps whose directories have been committed, oldest first; intact or not."""
    found = (step_of(entry.name) for entry in directory.iterdir()) if directory.is_dir() else ()
    return sorted(step for step in found if step is not None)


def unfinished(directory: Path) -> Iterator[tuple[Path, str, str]]:
    """Yield what is not a checkpoint, or not any more: its path, the name it is about, and its state."""
    for entry in sorted(directory.iterdir()):
        if found := _HIDDEN.fullmatch(entry.name):
            yield entry, found[1], found[3]
