"""The workloads, each in a process of its own: what it says is handed on, and interrupted it may save first."""

import os
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import IO

from rackwright.progress import Progress
from rackwright.stack.stack import ROOT


def run(python: Path, argv: Sequence[str], progress: Progress) -> tuple[int, str]:
    """Run ``python -m`` *argv*, and return its exit status and the last line that it said.

    Args:
        python: Of the environment of the workloads.
    """
    path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    environment = {**os.environ, "PYTHONPATH": path, "PYTHONUNBUFFERED": "1"}
    last = ""

    def hand_on(lines: IO[str]) -> None:
        nonlocal last
        for line in lines:
            last = line.rstrip() or last
            progress(line.rstrip())

    with subprocess.Popen(
        [str(python), "-m", *argv], env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, text=True, errors="replace", process_group=0,  # a terminal interrupts us alone
    ) as process:  # fmt: skip
        assert process.stdout
        try:
            hand_on(process.stdout)
            return process.wait(), last
        except KeyboardInterrupt:
            process.terminate()
            progress("interrupted; a training saves first, and another Ctrl-C ends it at once")
            hand_on(process.stdout)
            process.wait()
            raise
        finally:
            process.kill()  # what has not ended was interrupted again
