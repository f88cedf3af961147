"""What a preview costs: the real pulumi, program and provider over simulated hosts, in processor time."""

import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FLOOR_MS, AIM_MS = 60, 40
"""Of processor time, all processes together, for each host with three resources."""


def start(main: Callable[..., int | None], *smallest: tuple[dict[str, Any], Mapping[str, Any]]) -> None:
    """Call *main* with the arguments of the command line, and exit with what it returns.

    Args:
        smallest: Namespaces of modules, and the values that their constants have with ``--smallest``: one round of
            little work, which measures nothing and proves that the benchmark runs.
    """
    given = [argument for argument in sys.argv[1:] if argument != "--smallest"]
    if len(given) < len(sys.argv) - 1:
        for namespace, constants in smallest:
            if unknown := constants.keys() - namespace.keys():
                raise NameError(f"no constants of {namespace['__name__']}: {', '.join(unknown)}")
            namespace.update(constants)
    sys.exit(main(*given))


def children_seconds() -> float:
    """Return the processor seconds, user and system, of all processes that have ended below this one."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


@dataclass(frozen=True)
class Used:
    """Processor time and memory of a process and all its children."""

    seconds: float
    """Processor time, user and system."""
    megabytes: float
    """The most memory that one process had."""
    wall_seconds: float
    stdout: str


def run(argv: Sequence[str], directory: Path, environment: Mapping[str, str], statuses: tuple[int, ...] = (0,)) -> Used:
    """Run *argv* in *directory*, and return what it has taken.

    Raises:
        AssertionError: It ended with another status than one of *statuses*.
    """
    began = time.monotonic()
    with tempfile.TemporaryFile("w+") as stdout, tempfile.TemporaryFile("w+") as stderr:
        process = subprocess.Popen(argv, cwd=directory, env=environment, stdout=stdout, stderr=stderr)
        _, status, used = os.wait4(process.pid, 0)
        wall_seconds, process.returncode = time.monotonic() - began, os.waitstatus_to_exitcode(status)
        stdout.seek(0)
        stderr.seek(0)
        if process.returncode not in statuses:
            raise AssertionError(f"{' '.join(argv)} ended with {process.returncode}:\n{stderr.read()[-2000:]}")
        return Used(used.ru_utime + used.ru_stime, used.ru_maxrss * 1024 / 1e6, wall_seconds, stdout.read())
