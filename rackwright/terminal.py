"""Output to the operator's terminal: no text from a host can move the cursor, hide text or reorder it."""

import contextlib
import re
import shutil
import sys
import traceback
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import TYPE_CHECKING, Any

from rackwright.errors import Diagnostic, Refused, visible

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text


ELAPSED = re.compile(r"(.+, )\d+ s")
_last: dict[str, str] = {"notified": ""}
"""The last line on stderr; empty if something else was written after it."""


def show(text: object = "", end: str = "\n", flush: bool = False) -> None:
    """Write *text* to stdout, which is for results."""
    _last["notified"] = ""
    sys.stdout.write(visible(str(text)) + end)
    if flush:
        sys.stdout.flush()


def notify(text: object) -> None:
    """Write a line to stderr, which is for progress and errors.

    On a terminal, a line that only counts the seconds on replaces the line before.
    """
    line, before = visible(str(text)), _last["notified"]
    new, old = ELAPSED.fullmatch(line), ELAPSED.fullmatch(before)
    if sys.stderr.isatty() and new and old and new[1] == old[1]:
        rows = -(-len(before) // max(shutil.get_terminal_size().columns, 1))
        sys.stderr.write(f"\x1b[{rows}A\x1b[J")
    _last["notified"] = line
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()


def confirm(question: str) -> bool:
    """Return whether the operator answers *question* with yes; False without a terminal."""
    import typer

    return sys.stdin.isatty() and typer.confirm(visible(question), err=True)


def require(help: str) -> None:
    """Return if stdin is a terminal, on which the operator can answer.

    Raises:
        Refused: It is none; the error has *help*, which names the option that answers.
    """
    if not sys.stdin.isatty():
        problem = "stdin is no terminal"
        raise Refused(Diagnostic("command", problem, "a terminal, because the command asks before a change", help))


@contextlib.contextmanager
def progress() -> Iterator[Callable[[str], None]]:
    """Yield a function that replaces the line of progress on stderr; without a terminal it shows nothing."""
    if not sys.stderr.isatty():
        yield lambda text: None
        return
    with console(stderr=True).status("starting") as status:
        yield lambda text: status.update(visible(text))


def console(stderr: bool = False) -> "Console":
    """Return rich's console; control characters in its texts become visible before rich reads the markup."""
    from rich.console import Console

    class Visible(Console):
        def render_str(self, text: str, **options: Any) -> "Text":
            return super().render_str(visible(text), **options)

    return Visible(stderr=stderr, highlight=False)


def notify_traceback(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Write the traceback of an unexpected error to stderr; it may quote text from a host."""
    notify("".join(traceback.format_exception(kind, error, trace)).rstrip())
