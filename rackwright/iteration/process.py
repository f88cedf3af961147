"""The processes of the workloads: their output is passed on, and an interrupted training can save first."""

import os
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import IO

from rackwright import locations
from rackwright.progress import Progress


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

    with subprocess.Popen(
        [str(python), "-m", *argv], env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, text=True, errors="replace", process_group=0,  # a terminal interrupts only us
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
            process.kill()  # a process that has not ended here was interrupted again
