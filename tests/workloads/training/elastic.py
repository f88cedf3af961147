"""An elastic run that a test looks at from outside: by what its processes write, and what they were started by."""

import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.support.training_runs import ROOT, read_metrics

COMMIT = 5
"""Steps; what a lost process may cost."""
CHANGES = (
    "elastic=true", "steps=1000000", f"commit_every_steps={COMMIT}", "report_every_steps=1", "global_batch=16",
    "saving.every_steps=1000000", "launcher=horovod",
)  # fmt: skip
PATIENCE_SECONDS = 3600
"""Gloo's timeout: whatever is noticed by it alone is never noticed here, as a test waits for less."""


class ElasticRun:
    """Processes on hosts that come and go."""

    def __init__(self, argv: Sequence[str], environment: Mapping[str, str], directory: Path) -> None:
        self.out, self.log = directory / "out", directory / "log"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                argv, cwd=ROOT, env=environment, stdout=log, stderr=log, start_new_session=True
            )

    def eventually(self, holds: Callable[[], Any], what: str, seconds: float = 600) -> Any:
        """Return what *holds* returns, once it is true."""
        deadline = time.monotonic() + seconds
        while not (value := holds()):
            assert self.process.poll() is None, f"ended with {self.process.returncode} before {what}"
            assert time.monotonic() < deadline, f"never {what}"
            time.sleep(0.1)
        return value

    def lines(self, host: str) -> list[dict[str, Any]]:
        return read_metrics(self.out, f"{host}-0") if (self.out / f"metrics-{host}-0.jsonl").exists() else []

    def worlds(self, host: str) -> list[dict[str, Any]]:
        return [line for line in self.lines(host) if line.get("event") == "world"]

    def steps(self, host: str) -> list[int]:
        return [line["step"] for line in self.lines(host) if "loss" in line]

    def pid(self, host: str) -> int:
        return int(next(line["pid"] for line in reversed(self.lines(host)) if line.get("event") == "start"))

    def trains(self, host: str, world: int) -> dict[str, Any]:
        """Return the newest world of *host*, once it has so many processes and has trained beyond a commit."""

        def holds() -> Any:
            worlds, steps = self.worlds(host), self.steps(host)
            far = worlds and steps and steps[-1] >= worlds[-1]["step"] + 2 * COMMIT + 2
            return worlds[-1] if far and worlds[-1]["world"] == world else None

        found: dict[str, Any] = self.eventually(holds, f"{world} train")
        return found

    def cost(self, host: str, world: Mapping[str, Any]) -> dict[str, Any]:
        """Return what a change to *world* has cost: steps, and seconds from the last step before to the first after."""
        lines = self.lines(host)
        at = lines.index(dict(world))
        before = [line for line in lines[:at] if "loss" in line][-1]
        after = next(line for line in lines[at:] if "loss" in line)
        assert world["step"] % COMMIT == 0
        assert 0 <= before["step"] - world["step"] <= COMMIT, "a lost process costs the steps since the last commit"
        return {
            "lost_steps": before["step"] - world["step"],
            "recovery_seconds": round(after["time"] - before["time"], 1),
            "commit": COMMIT,
        }

    def close(self) -> None:
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGTERM)
            try:
                self.process.wait(60)
            except subprocess.TimeoutExpired:
                os.killpg(self.process.pid, signal.SIGKILL)
                self.process.wait()
        print(self.log.read_text()[-5000:])
