"""Programs whose whole process tree ends with the command that started them, however it ends.

The parent of such a program is a guard, a process that runs `main`. It ends the tree when it gets a signal, or when
the command has closed its end of a pipe, which the kernel does for a command that was killed. Processes that leave
their group or their session stay below the guard, because it adopts them.
"""

import contextlib
import ctypes
import errno
import os
import select
import shutil
import signal
import subprocess
import sys
import time
import weakref
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple, NoReturn

from rackwright import locations, scratch

_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36
_POLL_SECONDS = 0.1
_STOPPING = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
_MAIN = "import sys; sys.path.append(sys.argv.pop(1)); from rackwright.process_tree import main; main(*sys.argv[1:])"
"""Program of a guard, which needs the standard library alone. Its first argument is the directory of the package."""
_NOT_STARTED = 127
"""Exit status of a program that could not be started, as shells have it."""
Word = str | os.PathLike[str]
"""A word of a command: a text, or a path."""


class Stage(NamedTuple):
    """One attempt to end a tree."""

    scope: Literal["program", "tree"]
    number: int
    """Signal for the program alone, or for the whole tree."""
    seconds: float
    """Seconds until the next stage begins; a further signal to the guard begins it at once."""


WHOLE = (Stage("tree", signal.SIGTERM, 2.0), Stage("tree", signal.SIGKILL, 5.0))
"""Ending of programs of which nothing has to be saved."""
GENTLE = (Stage("program", signal.SIGINT, 60.0), Stage("program", signal.SIGINT, 10.0), *WHOLE)
"""Ending of programs that release locks and end their own processes after Ctrl-C."""


def guard_command(argv: Sequence[Word], life: str, ending: Sequence[Stage] = WHOLE) -> list[str]:
    """Return the command that runs *argv* below a guard.

    Args:
        life: The path of a FIFO or the number of a descriptor. The tree ends when no process has its other end open.
        ending: The stages by which the guard ends the tree.
    """
    stages = ",".join(f"{scope}:{int(number)}:{seconds:g}" for scope, number, seconds in ending)
    root = str(locations.PACKAGE.parent)
    return [sys.executable, "-I", "-S", "-c", _MAIN, root, life, stages, *(os.fspath(word) for word in argv)]


def start(
    argv: Sequence[Word], ending: Sequence[Stage] = WHOLE, pass_fds: Collection[int] = (), **options: Any
) -> "subprocess.Popen[Any]":
    """Start *argv* below a guard, in a session of its own, and return the guard's process.

    Its status is that of the program. Its `terminate` begins the next stage of *ending*; a terminal sends it nothing.

    Args:
        options: Further options of `subprocess.Popen`.

    Raises:
        FileNotFoundError: There is no such program.
    """
    environment: Mapping[str, str] = options.get("env") or os.environ
    if not shutil.which(argv[0], path=environment.get("PATH")):
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), argv[0])
    reading, writing = os.pipe()
    try:
        process: subprocess.Popen[Any] = subprocess.Popen(
            guard_command(argv, str(reading), ending), pass_fds=(*pass_fds, reading), start_new_session=True, **options
        )
    except BaseException:
        os.close(writing)
        raise
    finally:
        os.close(reading)
    weakref.finalize(process, os.close, writing)
    return process


def run(argv: Sequence[Word], ending: Sequence[Stage] = WHOLE, **options: Any) -> "subprocess.CompletedProcess[str]":
    """Run *argv* below a guard as `subprocess.run` does, with its output as text.

    An exception, such as the one for Ctrl-C, ends the tree first.

    Raises:
        FileNotFoundError: There is no such program.
    """
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "stdin": subprocess.DEVNULL}
    process = start(argv, ending, text=True, **{**pipes, **options})
    try:
        output, errors = process.communicate()
    except BaseException:
        stop(process)
        raise
    return subprocess.CompletedProcess([*argv], process.returncode, output, errors)


def stop(process: "subprocess.Popen[Any]") -> None:
    """End the tree of *process*, which `start` returned, and wait for its end; each Ctrl-C begins the next stage."""
    while True:
        try:
            process.terminate()
            process.wait()
        except KeyboardInterrupt:
            continue
        return


# --- the guard --------------------------------------------------------------------------------------------------------


class _Guard:
    """The parent of one program."""

    def __init__(self, life: str, ending: Sequence[Stage]) -> None:
        self._stages = [*ending]
        self._stage: Stage | None = None
        self._deadline = 0.0
        self._status: int | None = None
        """Wait status of the program; None while it runs."""
        self._asked: list[int] = []
        """Signals that asked for the end, and have not been handled."""
        self._life = int(life) if life.isdecimal() else os.open(life, os.O_RDONLY | os.O_NONBLOCK)
        os.set_inheritable(self._life, False)
        os.set_blocking(self._life, False)

    def run(self, argv: Sequence[str]) -> int:
        """Start *argv*, and return its wait status once its whole tree has ended."""
        waking, wake = os.pipe()
        os.set_blocking(wake, False)
        signal.set_wakeup_fd(wake)
        for number in _STOPPING:
            signal.signal(number, lambda number, frame: self._asked.append(number))
        signal.signal(signal.SIGCHLD, lambda number, frame: None)  # it wakes the loop
        _prctl(_PR_SET_CHILD_SUBREAPER, 1)
        if self._is_orphan():  # a FIFO that has no writer when it is opened never becomes readable
            return int(signal.SIGKILL)
        guard = os.getpid()
        program = os.fork()
        if not program:
            _become(argv, guard)
        watched = [self._life, waking]
        while not self._is_over(program):
            timeout = _POLL_SECONDS if self._stage else None
            ready, _, _ = select.select(watched, [], [], timeout)
            if waking in ready:
                os.read(waking, 1 << 10)
            if self._life in ready and self._is_orphan():
                watched.remove(self._life)
                if not self._stage:
                    self._begin_next(program)
            while self._asked:
                self._asked.pop()
                self._begin_next(program)
        return self._status if self._status is not None else int(signal.SIGKILL)

    def _is_orphan(self) -> bool:
        """Return whether the command has ended, or wants the tree to end."""
        try:
            return not os.read(self._life, 1)
        except BlockingIOError:
            return False

    def _is_over(self, program: int) -> bool:
        """Reap ended processes, begin a stage whose time has come, and return whether nothing is left to do."""
        with contextlib.suppress(ChildProcessError):
            while True:
                pid, status = os.waitpid(-1, os.WNOHANG)
                if not pid:
                    break
                if pid == program:
                    self._status = status
                    self._stages, self._stage = [*WHOLE], None  # for what the program has left behind
        below = _descendants()
        if self._status is not None and not below:
            return True
        if self._stage and self._stage.number == signal.SIGKILL:
            _send(below, signal.SIGKILL)  # to those that have begun in between as well
        if self._status is not None and not self._stage:
            self._begin_next(program)
        elif self._stage and time.monotonic() > self._deadline:
            if not self._stages:
                return True  # what is left, such as a process of another account
            self._begin_next(program)
        return False

    def _begin_next(self, program: int) -> None:
        if not self._stages:
            return
        self._stage = self._stages.pop(0)
        self._deadline = time.monotonic() + self._stage.seconds
        if self._stage.scope == "tree":
            _send(_descendants(), self._stage.number)
        elif self._status is None:
            _send([program], self._stage.number)


def _become(argv: Sequence[str], guard: int) -> NoReturn:
    """Become the program *argv*, which the kernel kills if the guard is killed."""
    try:
        for number in (*_STOPPING, signal.SIGCHLD, signal.SIGPIPE, signal.SIGXFSZ):
            signal.signal(number, signal.SIG_DFL)
        _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() == guard:
            os.execvp(argv[0], [*argv])  # noqa: S606 - the guard becomes the program
    except OSError as error:
        os.write(2, f"{argv[0]}: {error.strerror}\n".encode())
    finally:
        os._exit(_NOT_STARTED)


def _prctl(option: int, value: int) -> None:
    ctypes.CDLL(None).prctl(option, value, 0, 0, 0)


def _descendants() -> list[int]:
    """Return all running processes below this one."""
    parents: dict[int, int] = {}
    for entry in os.scandir("/proc"):
        if entry.name.isdecimal():
            with contextlib.suppress(OSError):
                fields = Path(entry.path, "stat").read_bytes().rpartition(b")")[2].split()
                if fields[0] != b"Z":
                    parents[int(entry.name)] = int(fields[1])
    below = {os.getpid()}
    while new := {pid for pid, parent in parents.items() if parent in below} - below:
        below |= new
    return sorted(below - {os.getpid()})


def _send(pids: Sequence[int], number: int) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, number)


def main(life: str, stages: str, *argv: str) -> NoReturn:
    """Run *argv*, and end as it ended."""
    ending = [
        Stage("tree" if scope == "tree" else "program", int(number), float(seconds))
        for scope, number, seconds in (each.split(":") for each in stages.split(","))
    ]
    with scratch.directory() as temporary:
        os.environ["TMPDIR"] = str(temporary)
        status = _Guard(life, ending).run(argv)
    if os.WIFSIGNALED(status):
        import resource

        number = os.WTERMSIG(status)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        with contextlib.suppress(OSError):  # SIGKILL has no handler
            signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)
    os._exit(os.waitstatus_to_exitcode(status) if os.WIFEXITED(status) else 128 + signal.SIGKILL)
