"""Output to the operator's terminal: no text from a host can move the cursor, hide or reorder text, or command CI."""

import contextlib
import json
import os
import re
import shutil
import sys
import termios
import textwrap
import threading
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, is_dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, TYPE_CHECKING, Any

from rackwright.errors import CI_COMMAND, ChangeRefused, Diagnostic, visible

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderResult
    from rich.table import Table
    from rich.text import Text


JSON_VERSION = 1
"""Version of the form of all JSON documents: it grows if a key is removed or renamed, or if the meaning of its value
changes."""
ELAPSED = re.compile(r"(.+, )\d+ s")
WIDEST = 1000
"""Columns of a terminal on which each word fits."""
NARROW = 60
"""Columns below which a table whose words do not fit has a line for each cell."""
LIVE_SECONDS = 0.5
"""Interval at which live lines are drawn."""
PLAIN_SECONDS = 10.0
"""Smallest interval of lines about long work where stderr is no terminal."""
PLAIN_SHARE = 0.1
"""Share of the time since the start after which the next of such lines comes, so that a log of an hour stays short."""
QUIET_SECONDS = 60.0
"""Interval of such lines that differ by their seconds alone."""
PLAIN_COLUMNS, PLAIN_ROWS = 160, 3
LABEL = re.compile(r"  (?:expected|note|help):\s+")
"""The label of a part of an error, up to its text."""
COMMAND = re.compile(r"`[^`]*`")
_UNBROKEN = "\0"
"""Stands for a blank at which no line is broken; `visible` leaves none in a text."""
SECONDS = re.compile(r"\d+ s\b")
_output = threading.RLock()
_live: "list[_LiveLines]" = []
"""The live lines, if there are any."""
_plain: "list[_PlainLines]" = []
"""The lines about long work where stderr is no terminal, if there are any."""
_last: dict[str, str] = {"notified": ""}
"""The last line on stderr; empty if something else was written after it."""


def show(text: object = "", end: str = "\n", flush: bool = False) -> None:
    """Write *text* to stdout, which is for results."""
    with _above_live():
        _last["notified"] = ""
        sys.stdout.write(visible(str(text)) + end)
        if flush or _live:
            sys.stdout.flush()


def write_line(text: str, file: IO[str] | None = None) -> None:
    """Write *text* to *file* at once, with visible control characters; None for stdout."""
    if file is None:
        show(text, flush=True)
    else:
        file.write(f"{visible(text)}\n")
        file.flush()


def show_json(document: object, stream: bool = False) -> None:
    """Write *document* to stdout as a JSON object; its types and those of all commands are in cli/json_outputs.py.

    Args:
        document: A mapping, a dataclass, or a model of pydantic; values below it may be such types as well, and paths.
        stream: Whether the document is one of several: it is a line of its own, written at once.
    """
    content = document if isinstance(document, Mapping) else _to_plain(document)
    whole = {"schema_version": JSON_VERSION, **content}
    text = json.dumps(whole, indent=None if stream else 2, default=_to_plain)
    # JSON lets DEL and commands of CI stand as they are; `visible` would write escapes that JSON does not have
    text = CI_COMMAND.sub(lambda match: f"\\u{ord(match[0][0]):04x}{match[0][1:]}", text.replace("\x7f", "\\u007f"))
    show(text, flush=stream)


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
    line = visible(str(text))
    with _above_live():
        before = _last["notified"]
        new, old = ELAPSED.fullmatch(line), ELAPSED.fullmatch(before)
        if sys.stderr.isatty() and new and old and new[1] == old[1]:
            rows = -(-len(before) // max(shutil.get_terminal_size().columns, 1))
            sys.stderr.write(f"\x1b[{rows}A\x1b[J")
        _last["notified"] = line
        sys.stderr.write(f"{line}\n")
        sys.stderr.flush()


def notify_error(text: str) -> None:
    """Write an error to stderr as `notify` does; on a terminal, lines are broken between words."""
    notify(wrap(text, _stderr_size()[0]) if sys.stderr.isatty() else text)


def wrap(text: str, columns: int) -> str:
    """Return *text* in lines of *columns* at most, as far as words are that short.

    A command in backticks stays whole, so that it can be copied: the terminal breaks it without a line end in it.
    """
    lines: list[str] = []
    for line in text.split("\n"):
        if len(line) <= columns:
            lines.append(line)
            continue
        label = LABEL.match(line)
        deeper = len(label[0]) if label and columns >= NARROW else len(line) - len(line.lstrip()) + 2
        whole = COMMAND.sub(lambda match: match[0].replace(" ", _UNBROKEN), line)
        broken = textwrap.wrap(
            whole, columns, subsequent_indent=" " * deeper, break_long_words=False, break_on_hyphens=False
        )
        lines += broken
    return "\n".join(lines).replace(_UNBROKEN, " ")


class _LiveLines:
    """Lines at the end of the output, which are drawn again and again."""

    def __init__(self, lines: Callable[[int, int], Sequence[str]]) -> None:
        self._lines = lines
        self._drawn: Sequence[str] = ()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._keep_drawing, daemon=True)
        self._thread.start()

    def erase(self) -> None:
        """Remove the lines from the terminal; the caller holds the guard of the output."""
        if self._drawn:
            width, _ = _stderr_size()
            rows = sum(max(-(-len(line) // width), 1) for line in self._drawn)
            sys.stderr.write(f"\x1b[{rows}A\x1b[J")
            sys.stderr.flush()
            self._drawn = ()

    def end(self) -> None:
        self._over.set()
        with _output:
            self.erase()

    def _keep_drawing(self) -> None:
        while not self._over.wait(LIVE_SECONDS):
            with _output, contextlib.suppress(OSError, ValueError):
                if not self._over.is_set():
                    self.erase()
                    self._draw()

    def _draw(self) -> None:
        width, rows = _stderr_size()
        lines = [visible(line)[: width - 1] for line in self._lines(width - 1, max(rows - 2, 1))]
        if lines:
            _last["notified"] = ""
            sys.stderr.write("".join(f"{line}\n" for line in lines))
            sys.stderr.flush()
            self._drawn = lines


class _PlainLines:
    """A line about long work now and then, for logs and pipes."""

    def __init__(self, lines: Callable[[int, int], Sequence[str]]) -> None:
        self._lines = lines
        self._over = threading.Event()
        threading.Thread(target=self._keep_writing, daemon=True).start()

    def end(self) -> None:
        self._over.set()

    def _keep_writing(self) -> None:
        before, seconds, whole = "", 0.0, 0.0
        while not self._over.wait(pause := min(max(PLAIN_SECONDS, whole * PLAIN_SHARE), QUIET_SECONDS)):
            seconds, whole = seconds + pause, whole + pause
            with contextlib.suppress(OSError, ValueError):
                text = "; ".join(" ".join(line.split()) for line in self._lines(PLAIN_COLUMNS, PLAIN_ROWS))
                form = SECONDS.sub("", text)
                if text and not self._over.is_set() and (form != before or seconds >= QUIET_SECONDS):
                    before, seconds = form, 0.0
                    notify(text)


def _stderr_size() -> tuple[int, int]:
    """Return the columns and rows of the terminal of stderr."""
    try:
        size = os.get_terminal_size(sys.stderr.fileno())
    except (OSError, ValueError):
        return 80, 24
    return size.columns or 80, size.lines or 24


@contextlib.contextmanager
def _above_live() -> Iterator[None]:
    """Keep other threads from the output during the block, and write it above the live lines."""
    with _output:
        for each in _live:
            each.erase()
        yield


def is_live() -> bool:
    """Return whether stderr is a terminal, on which lines can be replaced."""
    return sys.stderr.isatty()


@contextlib.contextmanager
def live(lines: Callable[[int, int], Sequence[str]]) -> Iterator[None]:
    """Show *lines* at the end of the output while the block runs.

    If stderr is no terminal, they are one line of a log, at most every PLAIN_SECONDS.

    Args:
        lines: A function of the columns and rows of the terminal, which is called twice a second.
    """
    if _live or _plain:  # one at a time
        yield
        return
    if not is_live():
        plain = _PlainLines(lines)
        _plain.append(plain)
        try:
            yield
        finally:
            _plain.remove(plain)
            plain.end()
        return
    shown = _LiveLines(lines)
    _live.append(shown)
    try:
        yield
    finally:
        _live.remove(shown)
        shown.end()


def confirm(question: str, name: str = "") -> bool:
    """Return whether the operator answers *question* with yes, or with *name* if there is one.

    Without a terminal the answer is False. Keys that were typed before the question are thrown away.
    """
    import typer

    if not sys.stdin.isatty():
        return False
    with _above_live():
        sys.stdout.flush()
        _last["notified"] = ""
    termios.tcflush(sys.stdin, termios.TCIFLUSH)
    if not name:
        return typer.confirm(visible(question), err=True)
    prompt = visible(f"{question} Type {name} to confirm")
    answer: str = typer.prompt(prompt, default="", show_default=False, err=True)
    return answer.strip() == name


def ask(question: str) -> str:
    """Return the line that the operator types at *question*; keys typed before the question are thrown away."""
    import typer

    with _above_live():
        sys.stdout.flush()
        _last["notified"] = ""
    termios.tcflush(sys.stdin, termios.TCIFLUSH)
    answer: str = typer.prompt(visible(question), default="", show_default=False, err=True)
    return answer.strip()


def ask_secret(question: str) -> str:
    """Return the text that the operator types twice at *question*, which the terminal does not show."""
    import typer

    sys.stdout.flush()
    termios.tcflush(sys.stdin, termios.TCIFLUSH)
    answer: str = typer.prompt(visible(question), hide_input=True, confirmation_prompt=True, err=True)
    return answer


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


class FittingTable:
    """A table of rich that a narrow terminal shows with a line for each cell, instead of cells that are cut."""

    def __init__(self, table: "Table") -> None:
        self.table = table

    def __rich_console__(self, console: "Console", options: "ConsoleOptions") -> "RenderResult":
        from rich.measure import Measurement
        from rich.padding import Padding

        width = options.max_width
        needed = Measurement.get(console, options.update(width=WIDEST), self.table).minimum
        if width >= NARROW or needed <= width:
            yield self.table
            return
        titles = [console.render_str(str(column.header)).plain for column in self.table.columns]
        for cells in zip(*(column.cells for column in self.table.columns), strict=True):
            first, *others = (console.render_str(cell) if isinstance(cell, str) else cell for cell in cells)
            yield first
            for title, cell in zip(titles[1:], others, strict=True):
                if str(cell):
                    text = console.render_str(f"{title}: " if title else "").append_text(cell)
                    yield Padding(text, (0, 0, 0, 2))


def table(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> FittingTable:
    """Return a table of plain texts, which may come from hosts."""
    from rich.markup import escape
    from rich.table import Table

    shown = Table(box=None, pad_edge=False, header_style="bold")
    for title in titles:
        shown.add_column(title, overflow="fold")
    for row in rows:
        shown.add_row(*map(escape, row))
    return FittingTable(shown)


def notify_traceback(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Write the traceback of an unexpected error to stderr; it may quote text from a host."""
    notify("".join(traceback.format_exception(kind, error, trace)).rstrip())
