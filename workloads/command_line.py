"""The shell that all commands of the workloads share: their parser, and how they end."""

import errno
import os
import select
import signal
import sys
from argparse import ArgumentParser, RawDescriptionHelpFormatter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from typing import Never, ParamSpec

from workloads.errors import Diagnostic, UserError, print_error

P = ParamSpec("P")
FULL = (errno.ENOSPC, errno.EDQUOT)
STEP_FAILED, INTERRUPTED = 4, 130
"""Exit statuses."""


def new_parser(module: str, text: str | None, epilog: str | None = None) -> ArgumentParser:
    """Return the parser of ``python -m MODULE``, with *text* unchanged as its help and without abbreviated options."""
    return ArgumentParser(
        prog=f"python -m {module}",
        description=text,
        epilog=epilog,
        formatter_class=RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )


@contextmanager
def writes_to(directory: Path) -> Iterator[None]:
    """Name *directory* in the error of a full drive that names no file: that of a write, unlike that of an open."""
    try:
        yield
    except OSError as error:
        if error.errno in FULL and error.filename is None:
            error.filename = str(directory)
        raise


def as_command(main: Callable[P, int]) -> Callable[P, int]:
    """Return *main* with its errors as messages and exit statuses: the user's, a full drive, and Ctrl-C.

    If the reader of its output has ended, as that of ``| head -1``, the command ends by SIGPIPE, as other programs do.
    """

    @wraps(main)
    def command(*args: P.args, **kwargs: P.kwargs) -> int:
        try:
            return _with_messages(main, *args, **kwargs)
        except BrokenPipeError:
            if not _has_closed_output():
                raise  # of another connection
            _end_by_sigpipe()

    return command


def _with_messages(main: Callable[P, int], *args: P.args, **kwargs: P.kwargs) -> int:
    """Return the exit status of *main*, after the messages of its errors."""
    try:
        try:
            return main(*args, **kwargs)
        finally:  # also of argparse's help; Python itself would report a failure here in words of its own
            if sys.stdout is not None:
                sys.stdout.flush()
    except UserError as error:
        print_error(error)
        return error.exit_status
    except OSError as error:
        if error.errno not in FULL:
            raise
        where, help = str(error.filename or "the drive"), "Free some space, and run the command again"
        print_error(Diagnostic(where, "no space is left on its drive", help=help))
        return STEP_FAILED
    except KeyboardInterrupt:
        print("interrupted; the command can be run again", file=sys.stderr)
        return INTERRUPTED


def _has_closed_output() -> bool:
    """Return whether stdout or stderr is a pipe or a socket without a reader."""
    poll = select.poll()
    for descriptor in (1, 2):
        poll.register(descriptor, 0)  # both events are always reported
    return any(event & (select.POLLERR | select.POLLHUP) for _, event in poll.poll(0))


def _end_by_sigpipe() -> Never:
    """End this process by SIGPIPE: a shell has status 141, and no text follows."""
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGPIPE})
    os.kill(os.getpid(), signal.SIGPIPE)
    os._exit(128 + signal.SIGPIPE)  # the first process of a container gets no signal of its own
