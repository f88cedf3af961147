"""Commands of the workloads, in the environment that is theirs."""

import os
import subprocess
from functools import cache
from pathlib import Path

import pytest

from rackwright.toolchain import workloads
from tests.support.expect import need
from tests.support.log import ROOT, Log


@cache
def _environment(log: Log) -> workloads.WorkloadsEnvironment:
    return workloads.ensure(log)


def python(log: Log) -> str:
    """Return the Python of the workloads, made first if need be."""
    return str(_environment(log).python)


def module(
    log: Log, *arguments: str, launcher: tuple[str, ...] = (), status: int | None = 0
) -> subprocess.CompletedProcess[str]:
    """Run `python -m workloads.training`, under a launcher where there is one; it has to end with *status*."""
    of = _environment(log)
    begin = [str(of.directory / "bin" / launcher[0]), *launcher[1:]] if launcher else []
    interpreter = [] if launcher[:1] == ("torchrun",) else [str(of.python)]
    argv = [*begin, *interpreter, "-m", "workloads.training", *arguments]
    done = log.run(argv, env={**os.environ, "OMP_NUM_THREADS": "1"}, timeout=900)
    if status is not None and done.returncode != status:
        output = (done.stderr or done.stdout).strip().splitlines()[-1:]
        pytest.fail(f"`{' '.join(arguments)}` ended with {done.returncode}, wanted {status}: {output}", pytrace=False)
    return done


def compare_runs(log: Log, one: Path, other: Path) -> float:
    """Return the largest difference of a final weight between two runs; infinite if they ended at different steps."""
    argv = [python(log), "-m", "tests.support.compare_runs", str(one), str(other)]
    done = log.run(argv, env={**os.environ, "PYTHONPATH": str(ROOT)})
    need(done.returncode == 0, f"the runs cannot be compared: {done.stderr.strip()[-300:]}")
    return float(done.stdout)


def run_tests(log: Log, *paths: str, **environment: str) -> str:
    """Run the tests of *paths* in the environment of the workloads, and return pytest's last line."""
    log(f"{' '.join(paths)} with torch")
    argv = [python(log), "-m", "pytest", "-q", f"--basetemp={log.empty_directory()}", *paths]
    done = log.run(argv, ROOT, {**os.environ, "OMP_NUM_THREADS": "1", **environment}, timeout=1800)
    last = (done.stdout.strip() or done.stderr.strip()).splitlines()[-1]
    need(done.returncode == 0 and "skipped" not in last, f"pytest says {last}")
    return last
