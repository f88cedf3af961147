"""Settings and the order of all tests, and the option --cpu-times."""

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from tests.support import json_documents

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


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Move the tests of shared fixtures to the front: pytest-xdist gives the first part of the list to one worker."""
    items.sort(key=lambda item: SHARED.isdisjoint(getattr(item, "fixturenames", ())))


def pytest_addoption(parser: pytest.Parser) -> None:
    help = "append a line of JSON for each test: id, wall seconds, processor seconds of pytest and of ended children"
    parser.addoption("--cpu-times", type=Path, metavar="FILE", help=help)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Measure the test with its fixtures: on a busy computer the processor time shows what the wall time hides."""
    before = _seconds()
    result = yield
    if file := item.config.option.cpu_times:
        spent = [round(now - then, 3) for now, then in zip(_seconds(), before, strict=True)]
        with file.open("a") as lines:
            lines.write(json.dumps([item.nodeid, *spent]) + "\n")
    return result


def _seconds() -> tuple[float, float, float]:
    own, children = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return time.monotonic(), own.ru_utime + own.ru_stime, children.ru_utime + children.ru_stime
