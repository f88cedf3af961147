"""Two processes, a third that comes, and one that is killed: what is lost is the steps since the last commit.

Three names of this computer stand for three hosts: Horovod gives up a whole host when a process on it dies.
"""

import json
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.training_runs import BIN, MODULE, QUICK, environment, weights
from tests.workloads.training.elastic import CHANGES, PATIENCE_SECONDS, ElasticRun

FIRST, SECOND, THIRD = "localhost", "127.0.0.1", "127.1"


class Hosts:
    """The hosts that the launcher knows."""

    def __init__(self, directory: Path) -> None:
        self._file, self.script = directory / "hosts", directory / "discover.sh"
        self.script.write_text(f"#!/bin/sh\ncat {self._file}\n")
        self.script.chmod(0o755)

    def there(self, *hosts: str) -> None:
        beside = self._file.with_suffix(".new")
        beside.write_text("".join(f"{host}:1\n" for host in hosts))
        beside.rename(self._file)


@pytest.fixture
def hosts(tmp_path: Path) -> Hosts:
    hosts = Hosts(tmp_path)
    hosts.there(FIRST, SECOND)
    return hosts


@pytest.fixture
def run(hosts: Hosts, tmp_path: Path) -> Iterator[ElasticRun]:
    given = [argument for change in (*QUICK, *CHANGES) for argument in ("--set", change)]
    argv = [
        str(BIN / "horovodrun"), "-np", "2", "--min-np", "2", "--max-np", "3",
        "--host-discovery-script", str(hosts.script), "--gloo-timeout-seconds", str(PATIENCE_SECONDS),
        sys.executable, "-m", MODULE, "digits", "--out", str(tmp_path / "out"), *given,
    ]  # fmt: skip
    run = ElasticRun(argv, environment(), tmp_path)
    try:
        yield run
    finally:
        run.close()


def test_processes_come_and_are_lost(run: ElasticRun, hosts: Hosts) -> None:
    assert run.trains(FIRST, 2)["shares"] == [8, 8]

    hosts.there(FIRST, SECOND, THIRD)
    joined = run.trains(FIRST, 3)
    assert joined["shares"] == [6, 5, 5]  # uneven: 16 examples among three
    assert run.worlds(THIRD)[0]["step"] == joined["step"] > 0, "the newcomer began where the others were"

    os.kill(run.pid(THIRD), signal.SIGKILL)
    left = run.trains(FIRST, 2)
    print(json.dumps({"shares": joined["shares"], **run.cost(FIRST, left)}))

    os.kill(run.pid(FIRST), signal.SIGTERM)
    run.eventually(lambda: any(line.get("event") == "stopped" for line in run.lines(FIRST)), "it is stopped")
    run.process.wait(120)
    assert weights(run.out), "what was learned is saved"
