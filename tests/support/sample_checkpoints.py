"""Checkpoints for the tests, without torch: the state is plain values."""

import random
from pathlib import Path

from workloads.checkpoint import Checkpoints, layout

TEXT = random.Random(0).randbytes(80_000).hex()
"""Without repetitions, in which another packed byte may stand for the same."""


def state(step: int) -> dict[str, object]:
    return {"step": step, "schedule": (0.1, None), "rng": {0: [step, step + 1]}, "text": f"{TEXT}{step}"}


def make(directory: Path, *steps: int) -> None:
    """Save these steps in *directory*; all of them stay."""
    with Checkpoints(directory, keep_last=100) as checkpoints:
        for step in steps:
            checkpoints.save(step, state(step))
            assert checkpoints.wait()


def flip(path: Path, offset: int, mask: int = 1) -> None:
    content = bytearray(path.read_bytes())
    content[offset] ^= mask
    path.write_bytes(content)


def files(directory: Path, step: int) -> list[Path]:
    return sorted((directory / layout.step_name(step)).iterdir())


def content(directory: Path) -> dict[str, bytes]:
    return {str(path.relative_to(directory)): path.read_bytes() for path in directory.rglob("*") if path.is_file()}
