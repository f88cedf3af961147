"""Output to the operator's terminal: no text from a host can move the cursor, hide text or reorder it."""

import contextlib
import json
import re
import shutil
import sys
import termios
import traceback
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, is_dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, TYPE_CHECKING, Any

from rackwright.errors import ChangeRefused, Diagnostic, visible

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text


JSON_VERSION = 1
"""Version of the form of all JSON documents: it grows if a key is removed or renamed, or if the meaning of its value
changes."""
ELAPSED = re.compile(r"(.+, )\d+ s")
_last: dict[str, str] = {"notified": ""}
"""The last line on stderr; empty if something else was written after it."""


def show(text: object = "", end: str = "\n", flush: bool = False) -> None:
    """Write *text* to stdout, which is for results."""
    _last["notified"] = ""
    sys.stdout.write(visible(str(text)) + end)
    if flush:
        sys.stdout.flush()


def show_json(document: object, stream: bool = False) -> None:
    """Write *document* to stdout as a JSON object; its types and those of all commands are in cli/json_outputs.py.

    Args:
        document: A mapping, a dataclass, or a model of pydantic; values below it may be such types as well, and paths.
        stream: Whether the document is one of several: it is a line of its own, written at once.
    """
    content = document if isinstance(document, Mapping) else _to_plain(document)
    whole = {"schema_version": JSON_VERSION, **content}
    text = json.dumps(whole, indent=None if stream else 2, default=_to_plain)
    # JSON lets DEL stand as it is, and a terminal obeys it; `visible` would write an escape that JSON does not have
    show(text.replace("\x7f", "\\u007f"), flush=stream)


def _to_plain(value: object) -> Any:
    """Return *value*, which `json` does not know, in types that it knows."""
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    if isinstance(value, Path):
        return str(value)
    if dump := getattr(value, "model_dump", None):
        return dump(mode="json")
    raise TypeError(f"{type(value).__name__} has no form in JSON")


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


def confirm(question: str, name: str = "") -> bool:
    """Return whether the operator answers *question* with yes, or with *name* if there is one.

    Without a terminal the answer is False. Keys that were typed before the question are thrown away.
    """
    import typer

    if not sys.stdin.isatty():
        return False
    sys.stdout.flush()
    _last["notified"] = ""
    termios.tcflush(sys.stdin, termios.TCIFLUSH)
    if not name:
        return typer.confirm(visible(question), err=True)
    prompt = visible(f"{question} Type {name} to confirm")
    answer: str = typer.prompt(prompt, default="", show_default=False, err=True)
    return answer.strip() == name


def require(help: str) -> None:
    """Return if stdin is a terminal, on which the operator can answer.

    Raises:
        ChangeRefused: It is none; the error has *help*, which names the option that answers.
    """
    if not sys.stdin.isatty():
        problem = "stdin is no terminal"
        raise ChangeRefused(
            Diagnostic("command", problem, "a terminal, because the command asks before a change", help)
        )


@contextlib.contextmanager
def progress() -> Iterator[Callable[[str], None]]:
    """Yield a function that replaces the line of progress on stderr; without a terminal it shows nothing."""
    if not sys.stderr.isatty():
        yield lambda text: None
        return
    with console(stderr=True).status("starting") as status:
        yield lambda text: status.update(visible(text))


def console(stderr: bool = False, file: IO[str] | None = None, width: int | None = None) -> "Console":
    """Return rich's console; control characters in its texts become visible before rich reads the markup.

    Args:
        file: File that it writes instead of the terminal.
        width: Number of columns; None for those of the terminal.
    """
    from rich.console import Console

    class Visible(Console):
        def render_str(self, text: str, **options: Any) -> "Text":
            return super().render_str(visible(text), **options)

    return Visible(stderr=stderr, file=file, width=width, highlight=False)


def notify_traceback(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Write the traceback of an unexpected error to stderr; it may quote text from a host."""
    notify("".join(traceback.format_exception(kind, error, trace)).rstrip())
