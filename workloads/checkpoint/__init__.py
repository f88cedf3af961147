"""Checkpoints: a short copy into memory, then written, hashed and committed in the background by another process.

    with Checkpoints(Path("out/checkpoints"), keep_last=3, keep_every=1000) as checkpoints:
        if found := checkpoints.newest():
            state = checkpoints.load(found)
        …
        checkpoints.save(step, {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "step": step})

`layout` says what stands on the drive.
"""

from workloads.checkpoint.checkpoints import Checkpoint, Checkpoints, Refused, at, load, newest
from workloads.checkpoint.manifest import Damaged
from workloads.checkpoint.tree import BadState

__all__ = ["BadState", "Checkpoint", "Checkpoints", "Damaged", "Refused", "at", "load", "newest"]
