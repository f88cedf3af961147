"""The processes of the workloads: their output is passed on, and an interrupted training can save first."""

import os
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import IO

from rackwright import locations, process_tree
from rackwright.process_tree import WHOLE, Stage
from rackwright.progress import Progress

SAVING = (Stage("program", signal.SIGTERM, 60.0), *WHOLE)
"""Ending of a workload: a training passes the signal to its other processes, and saves."""


def run(python: Path, argv: Sequence[str], progress: Progress) -> tuple[int, str]:
    """Run ``python -m`` *argv*, and return its exit status and the last line of its output.

    Args:
        python: The interpreter of the workloads' environment.
    """
    path = os.pathsep.join(filter(None, (str(locations.repository()), os.environ.get("PYTHONPATH"))))
    environment = {**os.environ, "PYTHONPATH": path, "PYTHONUNBUFFERED": "1"}
    last = ""

    def pass_on(lines: IO[str]) -> None:
        nonlocal last
        for line in lines:
            last = line.rstrip() or last
            progress(line.rstrip())

    with process_tree.start(
        [str(python), "-P", "-m", *argv], SAVING, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, text=True, errors="replace",
    ) as process:  # fmt: skip
        assert process.stdout
        try:
            pass_on(process.stdout)
            return process.wait(), last
        except KeyboardInterrupt:
            process.terminate()
            progress("interrupted; a training saves first; press Ctrl-C again to end it at once")
            pass_on(process.stdout)
            process.wait()
            raise
        finally:
            if process.poll() is None:
                process_tree.stop(process)  # it was interrupted again, or a signal ends this command
