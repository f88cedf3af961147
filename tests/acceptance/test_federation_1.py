"""Line 1: sites that keep their rows learn together as well as one training on all rows."""

import json
import os

from tests.support.acceptance import line
from tests.support.expect import need
from tests.support.log import ROOT, Log
from tests.support.workloads import python

WITHIN, BETTER = 0.05, 0.2
"""Largest distance from the training on all rows, and smallest one from the best site alone."""


@line("federation", 1, part="rehearsal")
def test_sites_with_four_digits_learn_all_ten(log: Log) -> str:
    """Five sites in one process, 10 rounds of a trimmed mean, by FedAvg and by FedProx; their transcripts agree."""
    log("training five sites twice, and each alone")
    argv = [python(log), "-m", "tests.support.federated_digits", str(log.empty_directory())]
    done = log.run(argv, ROOT, {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}, timeout=1800)
    need(done.returncode == 0, f"the federation ended with {done.returncode}: {done.stderr.strip()[-300:]}")
    figures = json.loads(done.stdout.splitlines()[-1])
    named = ", ".join(f"{name} {value:.3f}" for name, value in figures.items())
    for strategy in ("fedavg", "fedprox"):
        need(figures["central"] - figures[strategy] <= WITHIN, f"{strategy} is too far from all rows: {named}")
        need(figures[strategy] - figures["single"] >= BETTER, f"{strategy} is too near to one site: {named}")
    return f"2 strategies, 10 transcripts agree; accuracy on ten digits: {named}"
