"""Runs of benchmarks, whole or at their smallest size: they have to end well, and to print their figures."""

import json
import subprocess
import sys
from typing import Any

from tests.support.expect import need
from tests.support.log import Log


def smallest(name: str, *arguments: str) -> dict[str, Any]:
    """Return what `python -m NAME ARGUMENTS --smallest` prints for machines, in this environment."""
    argv = [sys.executable, "-m", name, *arguments, "--smallest"]
    done = subprocess.run(argv, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-4000:]
    figures: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return figures


def measure(log: Log, *module: str) -> dict[str, Any]:
    """Return the figures of the benchmark *module*, the last line of its output."""
    done = log.run([sys.executable, "-m", *module])
    need(done.returncode == 0, f"{' '.join(module)} ended with {done.returncode}: {done.stderr[-500:]}")
    log(done.stdout)
    figures: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return figures
