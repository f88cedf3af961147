"""The shell that all commands of the workloads share: their parser, and how they end."""

import errno
import sys
from argparse import ArgumentParser, RawDescriptionHelpFormatter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from typing import ParamSpec

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
    """Return *main* with its errors as messages and exit statuses: the user's, a full drive, and Ctrl-C."""

    @wraps(main)
    def command(*args: P.args, **kwargs: P.kwargs) -> int:
        try:
            return main(*args, **kwargs)
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

    return command
