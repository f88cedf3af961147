"""The data that two processes exchange, for the check of two GPUs.

    torchrun --nproc-per-node 2 -m tests.gpu.two_ranks KIND TINY FILE

The first process writes the figures to FILE.
"""

import json
import os
import sys
from pathlib import Path

from tests.gpu.check import Target
from tests.gpu.training import exchange
from workloads.training.load_config import load_config
from workloads.training.workers import join


def main(kind: str, tiny: str, file: str) -> None:
    workers = join(load_config("digits", ["launcher=torchrun", f"device={kind}"]), os.environ)
    figures = exchange(workers, Target(kind, tiny == "1"))
    if workers.rank == 0:
        Path(file).write_text(json.dumps({"processes": workers.size, **figures}))
    workers.leave()


if __name__ == "__main__":
    main(*sys.argv[1:])
