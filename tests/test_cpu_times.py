"""Settings of all tests: the option --cpu-times, and compiled modules that child processes find."""

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


def test_a_child_process_keeps_the_modules_that_it_compiles() -> None:
    """
    Each child process would compile the modules again, which takes longer than most commands.
    """
    argv = [sys.executable, "-c", "import sys; print(sys.dont_write_bytecode)"]

    assert subprocess.run(argv, capture_output=True, text=True, check=True).stdout == "False\n"
