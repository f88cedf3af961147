"""Diagnostics for users, the exceptions that carry them, and their one renderer."""

import re
import sys
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields

_INVISIBLE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]"  # \t and \n stay
)
"""Characters that a terminal obeys (C0, DEL, C1), that reorder or break lines (Unicode), or that have no bytes."""

CI_COMMAND = re.compile(
    r"##(?=\[)|::(?=(?:add-mask|add-matcher|add-path|debug|echo|endgroup|error|group|internal-set-repo-path|notice"
    r"|remove-matcher|save-state|set-env|set-output|stop-commands|warning)(?: |::))",
    re.IGNORECASE,
)
"""Beginnings of commands that GitHub's runner finds in the output of a step. The runner obeys ``##[`` anywhere, and
``::`` at the beginning of a line, to which a table or another program may move any part of a text. The markers of
GitLab's runner have control characters.

Source: ActionCommand.cs and ActionCommandManager.cs of actions/runner.
"""


def visible(text: str) -> str:
    """Return *text* with each control character as it is written in Python: an escape sequence becomes ``\\x1b[2J``.

    The first character of a command for a runner of CI is written in the same way: ``\\x3a:error::``.
    """
    text = _INVISIBLE.sub(lambda match: ascii(match[0])[1:-1], text)
    return CI_COMMAND.sub(lambda match: f"\\x{ord(match[0][0]):02x}{match[0][1:]}", text)


def one_line(text: str) -> str:
    """Return *text* visible and without line breaks, for a value within a line."""
    return visible(text).replace("\n", "\\n")


@dataclass(frozen=True, slots=True)
class Diagnostic:
    """An error that a user can correct. Control characters in its texts are made visible.

    ``str()`` gives one sentence, for logs and fields of reports; ``render()`` gives the lines for a reader.
    """

    where: str
    """The place: file, line and keys, or the name of a resource, host or option."""
    problem: str
    """The wrong value, or the event, as a clause."""
    expected: str = ""
    """The expectation, as a clause."""
    help: str = ""
    """The remedy, as an imperative sentence without its full stop."""
    note: str = ""
    """More to know about it, as a clause."""
    source: str = ""
    """The document with the rule."""
    id: str = ""
    """The section of docs/troubleshooting.md with causes and cures; empty where the help says it all."""

    def __post_init__(self) -> None:
        for each in fields(self):
            object.__setattr__(self, each.name, visible(getattr(self, each.name)))

    def __str__(self) -> str:
        """Return the diagnostic as one sentence."""
        text = "; ".join(part for part in (self.problem, self.expected, self.note) if part)
        text = ". ".join(part for part in (text, self.help) if part) + "."
        text = f"{self.where}: {text}" if self.where else text
        return _indent(f"{text} [{self.source}]" if self.source else text, 2)

    def render(self, severity: str = "error") -> str:
        """Return the diagnostic in lines: the problem after *severity*, the id and the place, then each other part.

        Without a severity, as the engine prints it after its own, the id stands alone: ``[host-busy] gpu-01: …``.
        """
        id = f"[{self.id}]" if self.id else ""
        label = f"{severity}{id}: " if severity else f"{id} ".lstrip()
        first = label + ": ".join(part for part in (self.where, self.problem) if part)
        parts = {"expected": self.expected, "note": self.note, "help": self.help}
        if self.source:
            last = "help" if self.help else "expected"
            parts[last] = f"{parts[last]} ({self.source})".lstrip()
        rows = (f"  {label + ':':<9} {_indent(text, 12)}" for label, text in parts.items() if text)
        return "\n".join((_indent(first, 2), *rows))

    def as_data(self) -> dict[str, str]:
        """Return the parts that are not empty, as ``--json`` prints them."""
        return {name: text for name, text in asdict(self).items() if text}


class UserError(Exception):
    """One or more diagnostics, printed without a traceback."""

    exit_status: int = 2
    """Exit status of the command: 1 differs, 2 bad input or refused, 3 unreachable or unknown, 4 a step failed."""

    def __init__(self, *diagnostics: Diagnostic) -> None:
        self.diagnostics = diagnostics
        super().__init__("\n".join(map(str, diagnostics)))

    @property
    def diagnostic(self) -> Diagnostic:
        """The first diagnostic."""
        return self.diagnostics[0]

    def render(self, severity: str = "error") -> str:
        return render(self.diagnostics, severity)


def render(diagnostics: Iterable[Diagnostic], severity: str = "error") -> str:
    """Return *diagnostics* in lines, in their order, each once."""
    return "\n".join(dict.fromkeys(each.render(severity) for each in diagnostics))


def print_error(error: UserError | Diagnostic) -> None:
    """Print *error* to stderr."""
    print(error.render(), file=sys.stderr, flush=True)


def _indent(text: str, columns: int) -> str:
    """Return *text* with its further lines indented: none of them looks like a message of its own."""
    return text.replace("\n", "\n" + " " * columns)
