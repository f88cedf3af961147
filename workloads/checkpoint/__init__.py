"""Checkpoints: a short copy into memory, which a background process then writes, hashes and commits.

    with Checkpoints(Path("out/checkpoints"), keep_last=3, keep_every=1000) as checkpoints:
        if checkpoint := checkpoints.newest():
            state = checkpoints.load(checkpoint)
        …
        checkpoints.save(step, {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "step": step})

The module `layout` describes the files on the drive.
"""

from workloads.checkpoint.checkpoints import (
    Checkpoint,
    CheckpointRequestError,
    Checkpoints,
    at_step,
    load,
    newest,
    not_finite,
    verify_shards,
)
from workloads.checkpoint.manifest import CheckpointDamaged
from workloads.checkpoint.parts import READ_BYTES, StoredTensor, open_state
from workloads.checkpoint.tree import BadState

__all__ = [
    "READ_BYTES",
    "BadState",
    "Checkpoint",
    "CheckpointDamaged",
    "CheckpointRequestError",
    "Checkpoints",
    "StoredTensor",
    "at_step",
    "load",
    "newest",
    "not_finite",
    "open_state",
    "verify_shards",
]
