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


def loaded_by(monkeypatch: pytest.MonkeyPatch, asked: str, workers: list[int] | None, written: int | None) -> int:
    """Return when a service counts as loaded, whose reload was asked for at 9000 if *asked* is a time."""
    clocks = loads.Clocks()
    clocks.monotonic = 0
    monkeypatch.setattr(loads, "time_of_reload", lambda *_: 9_000)
    monkeypatch.setattr(loads, "is_replaced", lambda *_: False)
    monkeypatch.setattr(loads, "started_workers", lambda *_: workers)
    monkeypatch.setattr(loads, "written_by_sshd", lambda *_: written)
    values = {"MainPID": "1", loads.STARTED: "1", loads.ENTERED: "1", loads.CHANGED: "1"}
    values["ExecReload"] = f"{{ path=/bin/kill ; start_time=[{asked}] ; status=0 }}"
    return int(loads.service("", "any.service", values, clocks)["loaded_ns"])


@pytest.mark.parametrize(
    ("asked", "workers", "written", "loaded"),
    [
        ("Mon 2026", [5_000], None, 5_000),
        ("Mon 2026", [], None, 1_000),
        ("Mon 2026", None, 6_000, 6_000),
        ("Mon 2026", None, 20_000, 9_000),
        ("Mon 2026", None, None, 9_000),
        ("n/a", None, 6_000, 1_000),
        ("n/a", None, 1 << 62, 1_000),
        ("n/a", None, None, 1_000),
    ],
    ids=[
        "nginx", "nginx without workers", "sshd that refused", "sshd", "another program", "a touched file",
        "a file from the future", "no reload",
    ],
)  # fmt: skip
def test_a_reload_counts_that_systemd_noted_and_the_program_did_not_refuse(
    monkeypatch: pytest.MonkeyPatch, asked: str, workers: list[int] | None, written: int | None, loaded: int
) -> None:
    assert loaded_by(monkeypatch, asked, workers, written) == loaded


def test_the_time_of_a_file_proves_no_reload(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """``touch /run/sshd.pid`` leaves an sshd as old as its process."""
    (tmp_path / "run").mkdir()
    (tmp_path / "run/sshd.pid").write_text("4711\n")
    monkeypatch.setattr(loads, "started_workers", lambda *_: None)
    monkeypatch.setattr(loads, "is_replaced", lambda *_: False)
    clocks = loads.Clocks()
    values = {"MainPID": "4711", loads.STARTED: "1000000", loads.ENTERED: "1000001", loads.CHANGED: "1000001"}
    values["ExecReload"] = "{ path=/bin/kill ; start_time=[n/a] ; status=0/0 }"

    found = loads.service(str(tmp_path), "ssh.service", values, clocks)

    assert loads.written_by_sshd(str(tmp_path), 4711) is not None
    assert found["loaded_ns"] == found["started_ns"]
