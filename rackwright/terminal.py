"""The one way to the operator's terminal: nothing that a host says moves its cursor, hides text or reorders it."""

import sys
import traceback
from types import TracebackType
from typing import TYPE_CHECKING, Any

from rackwright.errors import visible

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text


def show(text: object = "", end: str = "\n", flush: bool = False) -> None:
    """Write *text* to stdout, where results go."""
    sys.stdout.write(visible(str(text)) + end)
    if flush:
        sys.stdout.flush()


def say(text: object) -> None:
    """Write a line to stderr, where a person reads how work gets on."""
    sys.stderr.write(f"{visible(str(text))}\n")
    sys.stderr.flush()


def confirm(question: str) -> bool:
    """Return whether a person at the terminal says yes to *question*; False where none can."""
    import typer

    return sys.stdin.isatty() and typer.confirm(visible(question), err=True)


def console(stderr: bool = False) -> "Console":
    """Return rich's console, whose texts are made visible before their markup is read."""
    from rich.console import Console

    class Visible(Console):
        def render_str(self, text: str, **options: Any) -> "Text":
            return super().render_str(visible(text), **options)

    return Visible(stderr=stderr, highlight=False)


def say_failure(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Write the traceback of an error of our own: it may quote what a host said."""
    say("".join(traceback.format_exception(kind, error, trace)).rstrip())
