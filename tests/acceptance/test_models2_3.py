"""Line 3: a checkpoint is read by another number of ranks, each of which reads its own part and no more."""

import json
import os

from tests.support.acceptance import line
from tests.support.expect import need
from tests.support.log import ROOT, Log
from tests.support.workloads import python

WORLDS = (1, 2, 4, 3)
LAYERS = 10
STATE_BYTES = 300e6
MOST, LARGEST = 1.3, 0.05
"""Largest anonymous memory of a rank as a multiple of its part, and largest tensor as a share of the state."""


@line("models2", 3)
def test_ranks_read_their_own_part_of_a_checkpoint_by_another_number_of_ranks(log: Log) -> str:
    directory = log.empty_directory()
    model, out = directory / "model", directory / "out"
    for each in (model, out):
        each.mkdir()
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    make = ["-m", "tests.support.reshard", "--make", str(model), str(LAYERS)]
    log.run([python(log), *make], ROOT, environment, timeout=300)
    figures = []
    for world in WORLDS:
        launcher = [python(log), "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(world)]
        done = log.run([*launcher, "-m", "tests.support.reshard", str(model), str(out)], ROOT, environment, timeout=600)
        need(done.returncode == 0, f"{world} ranks ended with {done.returncode}: {done.stderr[-300:]}")
        ranks = [json.loads((out / f"reshard-{world}-{rank}.json").read_text()) for rank in range(world)]
        need(all(each["step"] == len(figures) for each in ranks), f"{world} ranks have not read the last checkpoint")
        figures.append(_judge(world, ranks))
    steps = [str(out / "checkpoints" / f"step-{step:010}") for step in range(1, len(WORLDS) + 1)]
    done = log.run([python(log), "-m", "tests.support.compare_states", *steps], ROOT, environment, timeout=300)
    need(done.returncode == 0, f"the states differ: {done.stderr.strip()[-300:]}")
    return f"{len(WORLDS)} numbers of ranks, {done.stdout.strip()}; memory of a rank {', '.join(figures)} of its part"


def _judge(world: int, ranks: list[dict[str, int]]) -> str:
    state = sum(each["part_bytes"] for each in ranks)
    need(state >= STATE_BYTES, f"the state has {state} bytes")
    need(ranks[0]["largest_tensor_bytes"] <= LARGEST * state, "one tensor is too large for this measurement")
    worst = max(max(each["anonymous_bytes"], each["peak_bytes"]) / each["part_bytes"] for each in ranks)
    need(worst <= MOST, f"with {world} ranks one has {worst:.2f} times its part; at most {MOST}")
    over = max(each["peak_bytes"] / each["estimate_bytes"] for each in ranks)
    need(over <= MOST, f"with {world} ranks one has {over:.2f} times the estimate; at most {MOST}")
    return f"{world}: {worst:.2f}"
