"""A training that does nothing but save: `python -m tests.workloads.checkpoint.loop DIRECTORY`.

It goes on from the newest checkpoint, prints each step before the next, and ends when it is asked to.
"""

import sys
from pathlib import Path

from tests.support import sample_checkpoints
from workloads.checkpoint import Checkpoints
from workloads.training.stopping import StopRequest

INTERVAL = 3


def main(directory: Path) -> None:
    with Checkpoints(directory, keep_last=2) as checkpoints, StopRequest(grace_seconds=600) as stopping:
        found = checkpoints.newest()
        step = checkpoints.load(found)["step"] if found else 0
        assert not found or checkpoints.load(found) == sample_checkpoints.state(step)
        print(f"from {step}", flush=True)
        while not stopping():
            step += 1
            if step % INTERVAL == 0:
                checkpoints.wait()
                checkpoints.save(step, sample_checkpoints.state(step))
            print(f"step {step} committed {checkpoints.committed or 0}", flush=True)
        print(
            f"safe {checkpoints.save_within(stopping.seconds_left, step, sample_checkpoints.state(step))} of {step}",
            flush=True,
        )


def one(directory: Path) -> None:
    """Save step 1, tell who has written it, and save step 2 when asked to."""
    with Checkpoints(directory) as checkpoints:
        checkpoints.save(1, {})
        checkpoints.wait()
        print(checkpoints._writer._process.pid, flush=True)
        sys.stdin.readline()
        checkpoints.save(2, {})
        print("saved", flush=True)
        sys.stdin.readline()


if __name__ == "__main__":
    (one if sys.argv[2:] == ["one"] else main)(Path(sys.argv[1]))
