"""Settings and the order of all tests, and the option --cpu-times."""

import gc
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Generator, Iterator
from contextlib import suppress
from functools import cache
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from tests.support import json_documents, sampled

# no test judges how long something takes
settings.register_profile("rackwright", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("rackwright")
# each worker of pytest-xdist has a core: the threads of PyTorch that wait for another thread's core keep it busy
os.environ.setdefault("OMP_NUM_THREADS", "1")
# thousands of child processes would compile our modules again, and pytest its tests
sys.dont_write_bytecode = False
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
# commands that tests run in the checkout write to a log of the tests, with a key of the tests
_LOG = tempfile.TemporaryDirectory(prefix="rackwright-log-")
os.environ["RACKWRIGHT_LOG"] = str(Path(_LOG.name, "log"))
os.environ["RACKWRIGHT_LOG_KEY"] = str(Path(_LOG.name, "key"))
# by a program: the environment of the workloads has no library for it
subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", os.environ["RACKWRIGHT_LOG_KEY"]], check=True)

SHARED = {"served", "wheel"}
"""Fixtures that take long to make: an MLflow server and the wheel."""


@pytest.fixture(scope="session", autouse=True)
def checked_json_documents() -> Iterator[None]:
    """Check each JSON document that a command prints in this process."""
    end = json_documents.check_all()
    yield
    end()


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Look for no garbage while all tests are collected, and afterwards not among them: they live to the end."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Move the tests of shared fixtures to the front: pytest-xdist gives the first part of the list to one worker."""
    items.sort(key=lambda item: SHARED.isdisjoint(getattr(item, "fixturenames", ())))


def pytest_report_header() -> str:
    """Return the line that says how to run the same cases again."""
    return "cases: all" if sampled.has_all_cases() else f"cases: a sample, {sampled.SEED}={sampled.seed()}"


def pytest_addoption(parser: pytest.Parser) -> None:
    help = "append a line of JSON for each test: id, wall seconds, processor seconds of pytest and of what it started"
    parser.addoption("--cpu-times", type=Path, metavar="FILE", help=help)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Measure the test with its fixtures: on a busy computer the processor time shows what the wall time hides."""
    if not (file := item.config.option.cpu_times):
        return (yield)
    before = _seconds()
    result = yield
    spent = [round(now - then, 3) for now, then in zip(_seconds(), before, strict=True)]
    with file.open("a") as lines:
        lines.write(json.dumps([item.nodeid, *spent]) + "\n")
    return result


def _seconds() -> tuple[float, float, float]:
    """Return the time, and the processor seconds of this process and of what it started."""
    own, children = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    seconds = own.ru_utime + own.ru_stime
    if group := _control_group():
        return time.monotonic(), seconds, _usage(group) - seconds
    return time.monotonic(), seconds, children.ru_utime + children.ru_stime  # of the children that have ended


@cache
def _control_group() -> Path | None:
    """Move this process to a control group of its own, which daemons and machines that it starts are in; None without.

    The group stays empty after the end, until the computer restarts.
    """
    for hierarchy in ("cpuacct", "."):
        group = Path("/sys/fs/cgroup", hierarchy, f"rackwright-tests-{os.getpid()}")
        with suppress(OSError):
            group.mkdir(exist_ok=True)
            if (group / "cgroup.procs").exists():
                (group / "cgroup.procs").write_text(f"{os.getpid()}")
                return group
            group.rmdir()
    return None


def _usage(group: Path) -> float:
    """Return the processor seconds of all processes that have been in *group*."""
    if (file := group / "cpuacct.usage").exists():
        return int(file.read_text()) / 1e9
    return int(dict(line.split() for line in (group / "cpu.stat").read_text().splitlines())["usage_usec"]) / 1e6
