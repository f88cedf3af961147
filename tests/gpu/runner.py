"""Run checks one after the other, each in a process group of its own, within a deadline for all.

    python -m tests.gpu.runner NAME FILE

The command runs one check in this process, and writes its figures and its result to FILE.
"""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from tests.gpu.check import Check, CheckFailed, CheckSkipped, Outcome, Recorder
from tests.gpu.report import REPLACED

ROOT = Path(__file__).parents[2]
NO_GPU, OUT_OF_TIME = "no NVIDIA GPU", "out of time"
LEAST_SECONDS = 5
"""Time below which no further check starts."""
LAST_BYTES = 4000
"""Bytes of a process's output in which the reason of its end is searched."""


def run_all(
    checks: Iterable[Check],
    gpus: int,
    deadline: float,
    command: Callable[[str, Path], Sequence[str]],
    on_outcome: Callable[[Outcome], None] = lambda outcome: None,
) -> list[Outcome]:
    """Return the outcome of each check, in their order.

    Args:
        gpus: NVIDIA GPUs of this machine.
        deadline: Time of `time.monotonic` at which the last check is killed.
        command: Function that returns the command for the check of a name, and the file that it writes.
        on_outcome: Function to call after each check.
    """
    outcomes = []
    for each in checks:
        left = deadline - time.monotonic()
        if reason := unfit(each, gpus):
            outcome = Outcome(each.name, each.what, "skipped", reason)
        elif left < LEAST_SECONDS:
            outcome = Outcome(each.name, each.what, "not run", OUT_OF_TIME)
        else:
            outcome = run_one(each, min(each.seconds, left), command)
        outcomes.append(outcome)
        on_outcome(outcome)
    return outcomes


def unfit(each: Check, gpus: int) -> str:
    """Return why a machine with *gpus* GPUs does not run the check; empty if it does."""
    if each.gpus and not gpus:
        return NO_GPU
    if each.gpus > gpus:
        return f"{gpus} GPU; the check needs {each.gpus}"
    return f"{each.stands_for}{REPLACED}" if each.stands_for and gpus else ""


def run_one(each: Check, seconds: float, command: Callable[[str, Path], Sequence[str]]) -> Outcome:
    """Run one check in a process group of its own, which is killed after *seconds*, and return the outcome.

    A check that is killed before its own time limit is not run: the time of the whole run was over.
    """
    with tempfile.TemporaryDirectory(prefix="rackwright-gpu-") as directory:
        file, log, began = Path(directory) / "result.json", Path(directory) / "log", time.monotonic()
        environment = {**os.environ, "PYTHONPATH": _python_path(), "TMPDIR": directory, "PYTHONUNBUFFERED": "1"}
        with log.open("wb") as output:
            process = subprocess.Popen(
                command(each.name, file), cwd=ROOT, env=environment, stdin=subprocess.DEVNULL, stdout=output,
                stderr=subprocess.STDOUT, start_new_session=True,
            )  # fmt: skip
        try:
            status: int | None = process.wait(seconds)
        except subprocess.TimeoutExpired:
            status = None
        finally:
            with suppress(ProcessLookupError):  # its children, too
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        taken = round(time.monotonic() - began, 1)
        result: dict[str, Any] = json.loads(file.read_text()) if file.exists() else {}
        if "status" not in result or status is None:
            cut_off = status is None and seconds < each.seconds
            reason = f"{OUT_OF_TIME} after {seconds:.0f} s" if cut_off else _end(status, seconds, log)
            result |= {"status": "not run" if cut_off else "failed", "reason": reason}
        return Outcome(each.name, each.what, result["status"], result["reason"], taken, result.get("figures", {}))


def _python_path() -> str:
    return os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))


def _end(status: int | None, seconds: float, log: Path) -> str:
    """Return how the process of a check ended, with its last line of output."""
    if status is None:
        how = f"stopped after {seconds:.0f} s"
    else:
        how = f"ended by {signal.Signals(-status).name}" if status < 0 else f"ended with {status}"
    lines = log.read_bytes()[-LAST_BYTES:].decode(errors="replace").strip().splitlines()
    return f"{how}; {lines[-1].strip()}" if lines else how


def child_command(name: str, file: Path) -> list[str]:
    return [sys.executable, "-m", "tests.gpu.runner", name, str(file)]


def run_here(each: Check, file: Path) -> None:
    """Run one check in this process, and write its figures and its result to *file*."""
    recorder = Recorder(file)
    missing = [name for name in each.packages if find_spec(name) is None]
    try:
        if missing:
            raise CheckSkipped(f"no package {', '.join(missing)}")
        each.run(recorder, each.target)
        recorder.write(status="ok", reason="")
    except CheckSkipped as reason:
        recorder.write(status="skipped", reason=str(reason))
    except CheckFailed as reason:
        recorder.write(status="failed", reason=str(reason))
    except Exception as error:  # every other error is a failure of the check, with the place of the error
        last = traceback.extract_tb(error.__traceback__)[-1]
        text = str(error).strip().splitlines()
        place = f"{Path(last.filename).name}:{last.lineno}"
        recorder.write(status="failed", reason=f"{type(error).__name__} at {place}: {text[0] if text else ''}")
        raise


def main(arguments: Sequence[str], checks: Mapping[str, Check]) -> int:
    name, file = arguments
    run_here(checks[name], Path(file))
    return 0


if __name__ == "__main__":
    from tests.gpu.checks import CHECKS

    sys.exit(main(sys.argv[1:], {each.name: each for each in CHECKS}))
