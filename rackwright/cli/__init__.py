"""The command line: it parses arguments, calls functions, prints results and exits."""

import atexit
import gc
import os
import sys

from rackwright import terminal
from rackwright.cli import ending
from rackwright.errors import DeclarationError, UserError, command


def main() -> None:
    """Run the command line, and end the process with the status of rackwright/exit_status.py."""
    _collect_rarely()
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "1")  # pydantic reads the metadata of all packages to find one
    ending.prepare()
    ending.end(ending.run(_run))


def _run() -> int:
    """Run the command of the command line, and return its status; an error of the operator has no traceback."""
    from rackwright.cli.app import app
    from rackwright.cli.narrow import narrow

    try:
        return ending.invoke(narrow(app, sys.argv[1:]))
    except UserError as error:
        _show_error(error)
        return error.exit_status


def _show_error(error: UserError) -> None:
    if "--json" in sys.argv:
        # one line, so that the errors of a stream are a line like its other documents
        terminal.show_json({"errors": [each.as_data() for each in error.diagnostics]}, stream=True)
    terminal.notify_error(error.render())
    if id := next((each.id for each in error.diagnostics if each.id), ""):
        terminal.notify(f"{command('rackwright explain {}', id)} has causes and cures")
    if isinstance(error, DeclarationError):
        count = len(error.diagnostics)
        terminal.notify(f"{count} error{'s' * (count > 1)}; nothing was done.")


def _collect_rarely() -> None:
    """Make the garbage collector run rarely, and not at the end of the process.

    Nearly all objects of a short command are modules and models, which live as long as the process. Python's defaults
    look at them again and again, and twice at the end: a quarter of the time of `rackwright check`.
    """
    gc.set_threshold(100_000, 50, 1000)
    atexit.register(gc.freeze)
