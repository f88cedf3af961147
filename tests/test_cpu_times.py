"""Settings of all tests: the option --cpu-times, and compiled modules that child processes find."""

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests import conftest
from tests.support.sources import ROOT


def test_a_test_has_a_line_with_the_processor_time_of_its_children(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(conftest, "_control_group", lambda: None)
    option = SimpleNamespace(cpu_times=tmp_path / "times.json")
    measuring = conftest.pytest_runtest_protocol(SimpleNamespace(nodeid="a", config=SimpleNamespace(option=option)))  # type: ignore[arg-type]
    next(measuring)
    subprocess.run([sys.executable, "-I", "-c", "sum(range(1_000_000))"], check=True)
    with pytest.raises(StopIteration):
        measuring.send(None)

    id, wall, _, children = json.loads((tmp_path / "times.json").read_text())
    assert id == "a" and wall > 0 and children > 0


@pytest.mark.skipif(os.geteuid() != 0, reason="only root makes control groups")
def test_a_daemon_counts_before_it_ends(tmp_path: Path) -> None:
    """
    In a process of its own, which moves to a control group.
    """
    program = (
        "import subprocess, sys, time; from tests import conftest\n"
        "before = conftest._seconds()\n"
        "busy = subprocess.Popen([sys.executable, '-I', '-c', 'while True: pass'])\n"
        "while conftest._control_group() and conftest._seconds()[2] < before[2] + 0.2: time.sleep(0.01)\n"
        "busy.kill(); print(conftest._control_group() or '')\n"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True, timeout=120, stdout=subprocess.PIPE)
    if group := done.stdout.decode().strip():
        Path(group).rmdir()


def test_a_child_process_keeps_the_modules_that_it_compiles() -> None:
    """
    Each child process would compile the modules again, which takes longer than most commands.
    """
    argv = [sys.executable, "-c", "import sys; print(sys.dont_write_bytecode)"]

    assert subprocess.run(argv, capture_output=True, text=True, check=True).stdout == "False\n"
