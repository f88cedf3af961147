"""Print the largest difference of a final weight between two runs; inf if they ended at different steps.

$(rackwright toolchain workloads) -m tests.support.compare_runs ONE OTHER
"""

import sys
from pathlib import Path

from workloads.checkpoint import newest
from workloads.training.sharded import load_whole


def largest_difference(one: Path, other: Path) -> float:
    first, second = (newest(out / "checkpoints") for out in (one, other))
    if not (first and second) or first.step != second.step:
        return float("inf")
    mine, theirs = load_whole(first)["model"], load_whole(second)["model"]
    return max(float((mine[name] - theirs[name]).abs().max()) for name in mine)


if __name__ == "__main__":
    print(largest_difference(Path(sys.argv[1]), Path(sys.argv[2])))
