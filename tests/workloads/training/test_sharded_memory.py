"""Each rank of a sharded run holds what the estimate says: its part, and no copy of the whole model in 16 bits."""

import json
from pathlib import Path

import pytest

from tests.support import sharded_memory
from tests.support.torchrun_ranks import run_ranks


@pytest.mark.parametrize(("ranks", "layers", "vocabulary"), [(1, 8, 256), (2, 8, 256), (2, 1, 8192)])
def test_a_rank_holds_what_the_estimate_says(ranks: int, layers: int, vocabulary: int, tmp_path: Path) -> None:
    """Embedding and head are the largest weights of the last model, and frozen beside adapters."""
    sharded_memory.make_model(tmp_path, layers, vocabulary)
    output = run_ranks(ranks, sharded_memory.main, tmp_path)
    files = tmp_path.glob("memory-*.jsonl")
    found = [json.loads(line) for file in files for line in file.read_text().splitlines()]

    assert len(found) == ranks * len(sharded_memory.CASES), output
    for case in found:
        assert case["held"] == pytest.approx(case["estimate"], rel=0.1), case
