"""The ends of a command: each exception and signal becomes one status of rackwright/exit_status.py."""

import codecs
import contextlib
import errno
import io
import locale
import os
import signal
import sys
import threading
from collections.abc import Callable
from types import FrameType
from typing import TYPE_CHECKING, Any, NoReturn, TextIO

from rackwright import scratch, terminal
from rackwright.exit_status import ExitStatus

if TYPE_CHECKING:
    import typer
    from _typeshed import ReadableBuffer

NAME = "rackwright"
INTERRUPTED_TEXT = "interrupted; running it again is safe"
STOPPING = b"stopping\n"
STOPPED = {signal.SIGTERM: ExitStatus.TERMINATED, signal.SIGHUP: ExitStatus.HUNG_UP}


_interrupted: list[int] = []
"""The first Ctrl-C."""
_before: dict[str, TextIO | None] = {}
"""The streams in whose place `prepare` has put others."""


class OutputFailed(OSError):
    """The output takes no more text; other errors of files and connections are no such error."""


class _Output(io.FileIO):
    """The file of stdout or stderr."""

    def write(self, data: "ReadableBuffer", /) -> int:
        try:
            return super().write(data)
        except OSError as error:
            raise OutputFailed(error.errno, error.strerror) from None


class _ClosedOutput(_Output):
    """An output that the caller has closed before the start."""

    def write(self, data: "ReadableBuffer", /) -> int:
        raise OutputFailed(errno.EPIPE, os.strerror(errno.EPIPE))


class StopSignal(BaseException):
    """SIGTERM or SIGHUP has arrived: blocks that clean up still run."""

    def __init__(self, number: int) -> None:
        self.number = number
        super().__init__(signal.Signals(number).name)


def prepare() -> None:
    """Make signals end the command as Ctrl-C does, and write each character, whatever the encoding of the output is."""
    _require_utf8()
    _before.update(stdout=sys.stdout, stderr=sys.stderr)
    sys.stdout, sys.stderr = _guard(sys.stdout, 1), _guard(sys.stderr, 2)
    if signal.getsignal(signal.SIGINT) == signal.default_int_handler:  # a shell's background job ignores it
        signal.signal(signal.SIGINT, _interrupt)
    for number in STOPPED:
        if signal.getsignal(number) == signal.SIG_DFL:  # nohup ignores SIGHUP, and so do we then
            signal.signal(number, _stop)


def _require_utf8() -> None:
    """Start the process again in UTF-8 mode if its locale has another encoding: fleets and templates are UTF-8.

    The output keeps the encoding of the locale.
    """
    encoding = locale.getencoding()
    if sys.flags.utf8_mode or codecs.lookup(encoding).name == "utf-8":
        return
    environment = {**os.environ, "PYTHONUTF8": "1"}
    environment.setdefault("PYTHONIOENCODING", f"{encoding}:backslashreplace")
    os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], environment)  # noqa: S606 - the same program


def _guard(stream: TextIO | None, number: int) -> TextIO:
    """Return a stream in the place of *stream*, or of none, whose failures are OutputFailed."""
    if stream is None:
        with contextlib.suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), number)  # no other file gets the number
        file = _ClosedOutput if number == 1 else _Output  # without stderr, only messages are lost
        return io.TextIOWrapper(io.BufferedWriter(file(number, "w", closefd=False)), errors="backslashreplace")
    if type(stream) is not io.TextIOWrapper or stream.fileno() != number:
        return stream
    stream.flush()
    return io.TextIOWrapper(
        io.BufferedWriter(_Output(number, "w", closefd=False)),
        encoding=stream.encoding,
        errors="backslashreplace",
        line_buffering=stream.line_buffering or stream.write_through,  # PYTHONUNBUFFERED sets write_through alone
    )


def _interrupt(number: int, frame: FrameType | None) -> None:
    """Say at once that Ctrl-C has arrived, the first time: work may take a moment to end."""
    if not _interrupted:
        _interrupted.append(number)
        with contextlib.suppress(OSError):
            os.write(2, STOPPING)
    raise KeyboardInterrupt


def _stop(number: int, frame: FrameType | None) -> None:
    raise StopSignal(number)


def run(main: Callable[[], int]) -> int:
    """Return the status of *main*, or that of the exception that ended it."""
    try:
        status = main()
        sys.stdout.flush()
        return status
    except KeyboardInterrupt:
        _say(INTERRUPTED_TEXT)
        return ExitStatus.INTERRUPTED
    except StopSignal as stopped:
        _say(f"ended by {stopped}; running it again is safe")
        return STOPPED[signal.Signals(stopped.number)]
    except OutputFailed as error:
        if error.errno == errno.EPIPE:
            return ExitStatus.OUTPUT_CLOSED
        _say(f"error: the output cannot be written: {error.strerror}")
        return ExitStatus.OUTPUT_FAILED
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            return _fail(error)
        place = f"{error.filename}: " if error.filename else ""
        _say(f"error: {place}no space is left on the drive; free some, and run the command again")
        return ExitStatus.OUTPUT_FAILED
    except Exception as error:
        return _fail(error)


def invoke(app: "typer.Typer") -> int:
    """Run the command that the command line names, and return its status.

    Typer's own `main` ends with 1 for a closed output and for the end of the input, and 1 means that something differs.
    """
    import typer

    command = typer.main.get_command(app)
    if any(name.endswith("_COMPLETE") for name in os.environ):
        command.main(prog_name=NAME)  # completes for a shell, and ends the process
    try:
        with command.make_context(NAME, sys.argv[1:]) as context:
            command.invoke(context)
    except typer.Exit as error:
        return error.exit_code
    except (typer.Abort, EOFError):  # Ctrl-C or the end of the input at a question
        _say("interrupted; nothing more was done")
        return ExitStatus.INTERRUPTED
    except Exception as error:
        if not hasattr(error, "format_message"):
            raise
        _show_usage(error)
    else:
        return ExitStatus.AS_DECLARED
    return ExitStatus.REFUSED


def _show_usage(error: Exception) -> None:
    """Print an error of the command line's grammar as typer does, and for a missing stack those that are here."""
    from typer import rich_utils

    show: Callable[[Any], None] = rich_utils.rich_format_error  # typer has no public name for the class of *error*
    show(error)
    if getattr(getattr(error, "param", None), "name", None) == "stack":
        from rackwright.cli import stacks

        if names := stacks.complete(""):
            _say(f"stacks here: {', '.join(names)}")


def end(status: int) -> NoReturn:
    """End the process with *status*; text that is still in a buffer, and cannot be written, does not change it."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    for name, stream in _before.items():
        setattr(sys, name, stream)  # the interpreter flushes those, which are empty
    if status in (ExitStatus.INTERRUPTED, *STOPPED.values()):
        scratch.leave_nothing()
        os._exit(status)  # the interpreter would wait for threads that read from hosts
    sys.exit(status)


def _fail(error: Exception) -> int:
    with contextlib.suppress(OSError, ValueError):
        terminal.notify_traceback(type(error), error, error.__traceback__)
        terminal.notify("rackwright itself failed; the result is unknown")
    return ExitStatus.INTERNAL


def _say(text: str) -> None:
    """Write *text* to stderr if that still takes text."""
    with contextlib.suppress(OSError, ValueError):
        terminal.notify(text)


def stop_event() -> threading.Event:
    """Return an event that the first interrupt sets; the next interrupt raises KeyboardInterrupt as usual.

    An exception could occur in code that swallows all exceptions, and then the command would not end.
    """
    event = threading.Event()

    def end(number: int, frame: object) -> None:
        event.set()
        signal.signal(signal.SIGINT, signal.default_int_handler)

    signal.signal(signal.SIGINT, end)
    return event
