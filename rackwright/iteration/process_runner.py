"""The processes of an iteration, whose output is in its log, and the error of one that fails."""

from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from rackwright.errors import Diagnostic, StepFailed, UserError
from rackwright.iteration.process_output import CHARACTERS, LINES, ProcessFailure, parse_failure
from rackwright.iteration.request import IterationRequest
from rackwright.iteration.work import now
from rackwright.progress import Progress

LOG = "processes.log"
"""File with the output of all processes of an iteration, and of all its starts, in its directory."""
RunPython = Callable[[Sequence[str], Progress], tuple[int, str]]
"""Function that runs ``python -m`` with its arguments; it returns the exit status and the last line."""


@dataclass(frozen=True, slots=True)
class ProcessResult:
    """The end of a process."""

    module: str
    failure: ProcessFailure
    log: Path
    """File with its output."""

    @property
    def status(self) -> int:
        return self.failure.status

    @property
    def is_refusal(self) -> bool:
        """Whether the process judged the model, and refused it; Python ends with the same status after a crash."""
        return self.status == 1 and not self.failure.crashed


class ProcessRunner:
    """Runs processes of the workloads; their output goes to the operator and to a log."""

    def __init__(self, run_python: RunPython, progress: Progress, log: Path) -> None:
        self._run_python, self._progress, self._log = run_python, progress, log

    def __call__(self, *argv: str | Path) -> ProcessResult:
        """Run ``python -m`` *argv*, and return its end."""
        words = [str(each) for each in argv]
        lines: deque[str] = deque(maxlen=LINES)
        log = self._open(words)

        def pass_on(line: str) -> None:
            nonlocal log
            lines.append(line[:CHARACTERS])
            self._progress(f"  {line}")
            log = self._write(log, line)

        try:
            status, last_line = self._run_python(words, pass_on)
        finally:
            if log:
                with suppress(OSError):  # each line has been written, or its error reported
                    log.close()
        failure = parse_failure([*lines] or [last_line], status)
        return ProcessResult(words[0], failure, self._log)

    def _open(self, words: Sequence[str]) -> IO[str] | None:
        try:
            file = self._log.open("a", buffering=1, errors="backslashreplace")
        except OSError as error:
            self._report(error)
            return None
        return self._write(file, f"{now()} python -m {' '.join(words)}")

    def _write(self, file: IO[str] | None, line: str) -> IO[str] | None:
        """Write *line*, and return the file, or None if it takes no more: a workload goes on without its log."""
        try:
            if file:
                file.write(f"{line}\n")
            return file
        except OSError as error:
            self._report(error)
            return None

    def _report(self, error: OSError) -> None:
        self._progress(f"  {self._log} cannot be written: {error.strerror}")


class ProcessFailed(UserError):
    """A process of the workloads failed. It determines the exit status."""

    def __init__(self, request: IterationRequest, result: ProcessResult) -> None:
        failure = result.failure
        problem = f"the process failed with status {failure.status}: {failure.problem}"
        note = "; ".join(part for part in (failure.note, f"its output is in {result.log}") if part)
        help = f"{failure.help or 'Correct the reported error'}. {request.resume_help}"
        super().__init__(Diagnostic(f"python -m {result.module}", problem, failure.expected, help, note))
        self.exit_status = failure.status if failure.status in (2, 3) else StepFailed.exit_status
