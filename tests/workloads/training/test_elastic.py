"""Two processes, a third that comes, and one that is killed: what is lost is the steps since the last commit.

Three names of this computer stand for three hosts: Horovod gives up a whole host when a process on it dies.
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.workloads.training.runs import BIN, MODULE, QUICK, ROOT, environment, told, weights

FIRST, SECOND, THIRD = "localhost", "127.0.0.1", "127.1"
COMMIT = 5
GLOO = ("--gloo-timeout-seconds", os.environ.get("GLOO_TIMEOUT_SECONDS", "60"))
"""How long those that stay wait for a newcomer, which has to import PyTorch first; and, at most, before they notice
that one of three is gone: only who was reading from it hears at once."""
CHANGES = (
    "elastic=true", "steps=1000000", f"commit_every_steps={COMMIT}", "report_every_steps=1", "global_batch=16",
    "saving.every_steps=1000000", "launcher=horovod",
)  # fmt: skip


def eventually(holds: Callable[[], Any], what: str, run: subprocess.Popen[bytes], seconds: float = 600) -> Any:
    """Return what *holds* returns, once it is true."""
    deadline = time.monotonic() + seconds
    while not (value := holds()):
        assert run.poll() is None, f"ended with {run.returncode} before {what}"
        assert time.monotonic() < deadline, f"never {what}"
        time.sleep(0.1)
    return value


class Cluster:
    """A run on hosts that come and go."""

    def __init__(self, directory: Path) -> None:
        self.out, self._hosts = directory / "out", directory / "hosts"
        self.there(FIRST, SECOND)
        script = directory / "discover.sh"
        script.write_text(f"#!/bin/sh\ncat {self._hosts}\n")
        script.chmod(0o755)
        given = [argument for change in (*QUICK, *CHANGES) for argument in ("--set", change)]
        elastic = ["-np", "2", "--min-np", "2", "--max-np", "3", "--host-discovery-script", str(script)]
        self.log = directory / "log"
        with self.log.open("wb") as log:
            self.run = subprocess.Popen(
                [str(BIN / "horovodrun"), *elastic, *GLOO,
                 sys.executable, "-m", MODULE, "digits", "--out", str(self.out), *given],
                cwd=ROOT, env=environment(), stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip

    def there(self, *hosts: str) -> None:
        beside = self._hosts.with_suffix(".new")
        beside.write_text("".join(f"{host}:1\n" for host in hosts))
        beside.rename(self._hosts)

    def lines(self, host: str) -> list[dict[str, Any]]:
        return told(self.out, f"{host}-0") if (self.out / f"metrics-{host}-0.jsonl").exists() else []

    def worlds(self, host: str = FIRST) -> list[dict[str, Any]]:
        return [line for line in self.lines(host) if line.get("event") == "world"]

    def steps(self, host: str = FIRST) -> list[int]:
        return [line["step"] for line in self.lines(host) if "loss" in line]

    def pid(self, host: str) -> int:
        return int(next(line["pid"] for line in reversed(self.lines(host)) if line.get("event") == "start"))

    def close(self) -> None:
        if self.run.poll() is None:
            os.killpg(self.run.pid, signal.SIGTERM)
            try:
                self.run.wait(60)
            except subprocess.TimeoutExpired:
                os.killpg(self.run.pid, signal.SIGKILL)
                self.run.wait()


def told_of(lines: list[dict[str, Any]], world: dict[str, Any]) -> dict[str, Any]:
    """Return what a change of the world has cost: steps, and seconds from the last step before to the first after."""
    at = lines.index(world)
    before = [line for line in lines[:at] if "loss" in line][-1]
    after = next(line for line in lines[at:] if "loss" in line)
    return {
        "lost_steps": before["step"] - world["step"],
        "recovery_seconds": round(after["time"] - before["time"], 1),
    }


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    cluster = Cluster(tmp_path)
    try:
        yield cluster
    finally:
        cluster.close()
        print(cluster.log.read_text()[-5000:])


def test_processes_come_and_are_lost(cluster: Cluster) -> None:
    run = cluster.run
    eventually(lambda: cluster.steps()[-1:] >= [2 * COMMIT], "two train", run)
    assert cluster.worlds()[0]["shares"] == [8, 8]

    cluster.there(FIRST, SECOND, THIRD)
    eventually(lambda: len(cluster.worlds()) > 1 and cluster.worlds()[-1]["world"] == 3, "a third has come", run)
    joined = cluster.worlds()[-1]
    assert joined["shares"] == [6, 5, 5]  # uneven: 16 examples among three
    eventually(lambda: cluster.steps()[-1:] >= [joined["step"] + 2 * COMMIT + 2], "three train", run)
    assert cluster.worlds(THIRD)[0]["step"] == joined["step"] > 0, "the newcomer began where the others were"

    os.kill(cluster.pid(THIRD), signal.SIGKILL)
    eventually(lambda: cluster.worlds()[-1]["world"] == 2 and cluster.worlds()[-1] != joined, "two go on", run)
    left, lines = cluster.worlds()[-1], cluster.lines(FIRST)
    before = [line["step"] for line in lines[: lines.index(left)] if "loss" in line][-1]
    assert left["step"] % COMMIT == 0
    assert 0 <= before - left["step"] <= COMMIT, "a lost process costs the steps since the last commit"
    eventually(lambda: cluster.steps()[-1:] >= [before + COMMIT], "they get further than before", run)
    print(json.dumps(told_of(cluster.lines(FIRST), left) | {"shares": joined["shares"], "commit": COMMIT}))

    os.kill(cluster.pid(FIRST), signal.SIGTERM)
    eventually(lambda: any(line.get("event") == "stopped" for line in cluster.lines(FIRST)), "it is stopped", run)
    run.wait(120)
    assert weights(cluster.out), "what was learned is saved"
