"""The option --cpu-times: a line for each test."""

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests import conftest


def test_a_test_has_a_line_with_the_processor_time_of_its_children(tmp_path: Path) -> None:
    option = SimpleNamespace(cpu_times=tmp_path / "times.json")
    measuring = conftest.pytest_runtest_protocol(SimpleNamespace(nodeid="a", config=SimpleNamespace(option=option)))  # type: ignore[arg-type]
    next(measuring)
    subprocess.run([sys.executable, "-I", "-c", "sum(range(1_000_000))"], check=True)
    with pytest.raises(StopIteration):
        measuring.send(None)

    id, wall, _, children = json.loads((tmp_path / "times.json").read_text())
    assert id == "a" and wall > 0 and children > 0
