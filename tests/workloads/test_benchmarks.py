"""Every benchmark of the environment of the workloads runs in `make soak`, at its smallest size."""

import pytest

from tests.support.benchmark import smallest

pytest.importorskip("torch")
pytestmark = pytest.mark.soak


@pytest.mark.parametrize("name", ["training", "launchers", "loading", "streaming"])
def test_a_benchmark_ends_well(name):
    assert smallest(f"benchmarks.{name}")


def test_a_checkpoint_is_measured(tmp_path):
    assert smallest("benchmarks.checkpoint", str(tmp_path))["pairs"] == 1
