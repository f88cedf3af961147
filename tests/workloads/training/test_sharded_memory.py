"""Each rank of a sharded run holds what the estimate says: its part, and no copy of the whole model in 16 bits."""

import json
import subprocess
from pathlib import Path

import pytest

from tests.support.sharded_memory import CASES, make_model
from tests.support.training_runs import ROOT, TORCHRUN, environment


@pytest.mark.parametrize("ranks", [1, 2])
def test_a_rank_holds_what_the_estimate_says(ranks: int, tmp_path: Path) -> None:
    make_model(tmp_path)
    argv = [*TORCHRUN, str(ranks), "-m", "tests.support.sharded_memory", str(tmp_path)]
    done = subprocess.run(argv, cwd=ROOT, env=environment(), capture_output=True, text=True, timeout=900)
    files = tmp_path.glob("memory-*.jsonl")
    found = [json.loads(line) for file in files for line in file.read_text().splitlines()]

    assert len(found) == ranks * len(CASES), done.stderr
    for case in found:
        assert case["held"] == pytest.approx(case["estimate"], rel=0.1), case
