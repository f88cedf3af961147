"""Names in a directory of checkpoints: committed checkpoints have a plain name, other entries start with a dot.

step-0000000200/                        one checkpoint
    manifest.json                       size and sha256 of every other file; its presence means that all exist
    shard-00000-of-00002.safetensors    the tensors of rank 0
    shard-00000-of-00002.json           its plain values, and the places of the tensors among them
.step-0000000300.RUN.partial/           being written
.step-0000000100.removing/              being removed
.step-0000000200.replaced/              complete, being replaced by another checkpoint of the same step
step-0000000400.aside/                  complete, with a flaw such as numbers that are not finite; it does not count
.lock-00000                             lock of the process that writes as rank 0
"""

import re
from collections.abc import Iterator
from pathlib import Path

TENSORS, VALUES, PART, FAILED = "safetensors", "json", "part", "failed"
"""Suffixes of a shard's files: two that stay, and two that report success or failure to rank 0."""
_STEP = re.compile(r"step-(\d{10,})")
_HIDDEN = re.compile(r"\.(step-\d{10,})\.(?:(.+)\.)?(partial|removing|replaced)")


def step_name(step: int) -> str:
    return f"step-{step:010}"


def parse_step_name(name: str) -> int | None:
    """Return the step of the directory *name*; None if it is not a checkpoint's."""
    match = _STEP.fullmatch(name)
    return int(match[1]) if match and step_name(int(match[1])) == name else None


def shard_name(rank: int, world: int, suffix: str) -> str:
    return f"shard-{rank:05}-of-{world:05}.{suffix}"


def file_names(world: int) -> set[str]:
    """Return the names of the files of a checkpoint with *world* shards, without its manifest."""
    return {shard_name(rank, world, suffix) for rank in range(world) for suffix in (TENSORS, VALUES)}


def partial_path(directory: Path, step: int, run: str) -> Path:
    return directory / f".{step_name(step)}.{run}.partial"


def set_aside_path(checkpoint: Path) -> Path:
    return checkpoint.with_name(f"{checkpoint.name}.aside")


def lock_path(directory: Path, rank: int) -> Path:
    return directory / f".lock-{rank:05}"


def steps(directory: Path) -> list[int]:
    """Return the steps of all committed checkpoints, oldest first, damaged ones included."""
    entries = (parse_step_name(entry.name) for entry in directory.iterdir()) if directory.is_dir() else ()
    return sorted(step for step in entries if step is not None)


def incomplete_entries(directory: Path) -> Iterator[tuple[Path, str, str]]:
    """Yield the entries that are not yet, or no longer, a checkpoint: path, name of the checkpoint, and state."""
    for entry in sorted(directory.iterdir()):
        if match := _HIDDEN.fullmatch(entry.name):
            yield entry, match[1], match[3]
