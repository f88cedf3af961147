"""These take PyTorch: `make test` runs them with the environment of the workloads, where other tests are left out."""

import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.support.preloaded import TRAINING, preloaded

collect_ignore_glob = [] if find_spec("torch") else ["test_*.py"]


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The interpreter of launchers, and the one that they start: forks of one process that has imported PyTorch."""
    with preloaded(Path(sys.executable), tmp_path_factory.mktemp("preloaded"), TRAINING) as program:
        yield program
