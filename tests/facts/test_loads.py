"""A reload of nginx shows in its workers, and no process of another program or account counts as one."""

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from rackwright.facts.probe import loads

PYTHON = os.path.realpath("/usr/bin/python3")
"""A program that every account can run."""
MAIN = """
import os, subprocess, sys
os.setresuid(*[int(sys.argv[2])] * 3)
child = subprocess.Popen(["nginx: worker process"], executable=sys.argv[1], stdin=subprocess.PIPE)
child.stdin.write(b"import time; print(1, flush=True); time.sleep(60)")
child.stdin.close()
child.wait()
"""


@pytest.fixture
def nginx() -> Iterator[Path]:
    """Return a copy of Python with the name of nginx, which every account can start."""
    with tempfile.TemporaryDirectory(dir="/var/tmp") as folder:
        Path(folder).chmod(0o755)
        yield Path(shutil.copy(PYTHON, f"{folder}/nginx"))


def loaded_later(program: str, worker: str, user: int) -> bool:
    """Return whether a child with a worker's title is a reload of a service of *user* that runs *program*."""
    started = time.clock_gettime(time.CLOCK_MONOTONIC) - 1000
    environment = {"PYTHONHOME": "/usr"}
    argv = [program, "-c", MAIN, worker, str(user)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, env=environment, cwd="/") as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == b"1\n", "the worker runs"
            values = {"MainPID": str(process.pid)}
            values |= dict.fromkeys((loads.STARTED, loads.ENTERED, loads.CHANGED), str(int(started * 1e6)))
            result = loads.service("", "any.service", values, loads.Clocks())
            return bool(result["loaded_ns"] > result["started_ns"])
        finally:
            for child in loads.children("", process.pid):
                os.kill(child, 9)
            process.kill()


@pytest.fixture(autouse=True)
def _root() -> Iterator[None]:
    if os.geteuid() or not Path(PYTHON).exists():
        pytest.skip("root alone reads the program of other processes, and starts the system's Python here")
    yield


def test_a_worker_of_nginx_shows_its_reload(nginx: Path) -> None:
    assert loaded_later(str(nginx), str(nginx), 0)


def test_a_child_of_another_program_is_no_worker(nginx: Path) -> None:
    assert not loaded_later(PYTHON, PYTHON, 0)
    assert not loaded_later(PYTHON, str(nginx), 0)


def test_another_program_below_nginx_is_no_worker(nginx: Path) -> None:
    assert not loaded_later(str(nginx), PYTHON, 0)


def test_a_service_of_another_account_has_no_workers(nginx: Path) -> None:
    assert not loaded_later(str(nginx), str(nginx), 65534)


def service_with_a_reload(monkeypatch: pytest.MonkeyPatch, program: str, signs: dict[str, list[int] | None]) -> int:
    """Return when a service counts as loaded whose reload was asked for at 9000, with its *program*'s own signs."""
    clocks = loads.Clocks()
    clocks.monotonic = 0
    monkeypatch.setattr(loads, "time_of_reload", lambda *_: 9_000)
    monkeypatch.setattr(loads, "is_replaced", lambda *_: False)
    for name, times in signs.items():
        monkeypatch.setattr(loads, name, lambda *_, times=times: times)
    values = {"MainPID": "1", loads.STARTED: "1", loads.ENTERED: "1", loads.CHANGED: "2"}
    values["ExecReload"] = f"{{ path={program} ; start_time=[Mon 2026] ; status=0 }}"
    return int(loads.service("", "any.service", values, clocks)["loaded_ns"])


@pytest.mark.parametrize(
    ("workers", "pid_file", "loaded"),
    [([5_000], None, 5_000), ([], None, 1_000), (None, [6_000], 6_000), (None, None, 9_000)],
    ids=["nginx", "nginx without workers", "sshd", "another program"],
)
def test_a_reload_that_a_program_refused_does_not_count(
    monkeypatch: pytest.MonkeyPatch, workers: list[int] | None, pid_file: list[int] | None, loaded: int
) -> None:
    signs = {"started_workers": workers, "reread_by_sshd": pid_file}

    assert service_with_a_reload(monkeypatch, "/bin/kill", signs) == loaded
