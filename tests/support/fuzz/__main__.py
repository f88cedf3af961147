"""Run fuzzed targets, each in a process with bounded memory.

python -m tests.support.fuzz [TARGET …] [--cases N] [--seed S]

Prints a line for each: target, cases, seconds, peak memory, result. Exit status 1 if one of them failed.
"""

import argparse
import importlib
import os
import re
import resource
import select
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[3]
MIB = 1 << 20
SILENCE_SECONDS = 1800
"""A process that has printed no number of cases for so long hangs in a call that no signal interrupts."""


@dataclass(frozen=True)
class Target:
    """One parser of foreign input."""

    peak_mib: int
    """The most memory that its process may have come to."""
    workloads: bool = False
    """Whether it needs the environment of the workloads, with NumPy."""


TARGETS = {
    "probe_answers": Target(512),
    "snapshots": Target(512),
    "archives": Target(256),
    "manifests": Target(256),
    "foreign_json": Target(384),
    "s3_answers": Target(512),
    "kubernetes_answers": Target(512),
    "readers": Target(512),
    "fleet_files": Target(512),
    "serving_bodies": Target(1024, workloads=True),
    "gguf": Target(1024, workloads=True),
    "workload_files": Target(1536, workloads=True),
}


@dataclass(frozen=True)
class Outcome:
    """How the process of a target ended."""

    target: str
    cases: int
    seconds: float
    peak_mib: float
    failure: str = ""
    """The end of what it printed; empty if it passed."""

    def __str__(self) -> str:
        result = "FAILED" if self.failure else "passed"
        return f"{self.target:18} {self.cases:8} cases {self.seconds:7.0f} s {self.peak_mib:6.0f} MiB  {result}"


def fuzz(name: str, cases: int, seed: int) -> Outcome:
    """Run one target and return its outcome."""
    target, began = TARGETS[name], time.monotonic()
    argv = [_python(target), "-m", "tests.support.fuzz", name, "--cases", str(cases), "--seed", str(seed), "--here"]
    process = subprocess.Popen(argv, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, bufsize=1)
    assert process.stdout
    lines: list[str] = []
    failure = ""
    while True:
        ready = select.select([process.stdout], [], [], SILENCE_SECONDS)[0]
        if not ready and any(line.startswith("cases ") for line in lines):
            failure = f"no case has ended for {SILENCE_SECONDS} s"
            process.kill()
        line = process.stdout.readline() if ready or failure else ""
        if ready and not line:
            break
        lines = [*lines[-60:], line] if line else lines
        if failure and not line:
            break
    status = process.wait()
    last = dict(line.split(" ", 1) for line in lines if line.startswith(("cases ", "peak ")))
    peak = float(last.get("peak", 0))
    if not failure and status:
        failure = "".join(lines[-25:]) or f"it ended with {status}"
    if not failure and peak > target.peak_mib:
        failure = f"its peak is {peak:.0f} MiB, at most {target.peak_mib} MiB are allowed"
    return Outcome(name, int(last.get("cases", 0)), time.monotonic() - began, peak, failure)


def _python(target: Target) -> str:
    if not target.workloads:
        return sys.executable
    from rackwright.toolchain import workloads

    return str(workloads.ensure(lambda _: None).python)


def _here(name: str, cases: int, seed: int) -> None:
    """Fuzz one target in this process, whose memory is limited."""
    limit = 4 * TARGETS[name].peak_mib * MIB
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    importlib.import_module(f"tests.support.fuzz.{name}").run(cases, seed)
    print(f"cases {cases}\npeak {_peak_mib():.1f}", flush=True)


def _peak_mib() -> float:
    """Return the most memory that this program has had, in MiB.

    ``ru_maxrss`` would count the memory of the process that started this one as well.
    """
    status = Path("/proc/self/status").read_text()
    return int(re.findall(r"^VmHWM:\s+(\d+) kB", status, re.MULTILINE)[0]) / 1024


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.support.fuzz", description=__doc__)
    parser.add_argument("targets", nargs="*", choices=[[], *TARGETS], metavar="TARGET", help=", ".join(TARGETS))
    parser.add_argument("--cases", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.here:
        _here(given.targets[0], given.cases, given.seed)
        return 0
    failed = 0
    for name in given.targets or TARGETS:
        outcome = fuzz(name, given.cases, given.seed)
        print(outcome, flush=True)
        if outcome.failure:
            print(outcome.failure, flush=True)
        failed += bool(outcome.failure)
    return min(failed, 1)


if __name__ == "__main__":
    os.chdir(ROOT)
    sys.exit(main())
