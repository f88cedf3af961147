"""Problems of declared values, which the loaders of fleets complete with file and line."""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from difflib import get_close_matches
from typing import TYPE_CHECKING

from rackwright.errors import Diagnostic

if TYPE_CHECKING:
    from pydantic import ValidationError

SHOWN = 40
"""Length up to which a message shows a wrong value as a whole."""

Keys = tuple[str | int, ...]
"""Path to a value: ``("hosts", "node-1", "drives", 0, "serial")``."""


class Problem(ValueError):
    """A problem of a value, raised by validators; the loader adds the file, the line and the path.

    It carries a diagnostic that has no place yet.

    Args:
        problem: The wrong value, as a message quotes it: ``got 'raid7'``.
        expected: The expectation, as a clause.
        help: The remedy, as a sentence without its full stop.
        path: Keys of the wrong value below the validated one; empty for the validated value itself.
        source: Document with the rule.
        note: More to know, such as the conflicting value.
        also: Keys of the conflicting value, below the same value as *path*.
    """

    def __init__(
        self,
        problem: str,
        expected: str,
        help: str,
        path: Keys = (),
        source: str = "",
        *,
        note: str = "",
        also: Keys | None = None,
    ) -> None:
        self.diagnostic = Diagnostic("", problem, expected, help, note, source)
        self.path, self.also = path, also
        super().__init__(str(self.diagnostic))

    def at(self, where: str, also: str = "") -> Diagnostic:
        """Return the diagnostic with its place, and with *also*, the place of the conflicting value."""
        part = self.diagnostic
        if also and part.note:
            return replace(part, where=where, note=f"{part.note} ({also})")
        return replace(part, where=where, expected=f"{part.expected} ({also})" if also else part.expected)

    def below(self, *keys: str | int) -> "Problem":
        """Return the problem with *keys* before its paths."""
        part, also = self.diagnostic, None if self.also is None else (*keys, *self.also)
        path = (*keys, *self.path)
        return Problem(part.problem, part.expected, part.help, path, part.source, note=part.note, also=also)


class Problems(ValueError):
    """Several problems, each with its path below the validated value."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__(" ".join(map(str, self.problems)))


def raise_any(problems: Iterable[Problem]) -> None:
    """Raise Problems if there is any problem."""
    if several := tuple(problems):
        raise Problems(several)


def excerpt(value: object) -> str:
    """Return *value* for a message, a long one by its beginning alone: it may be a private key."""
    return repr(value) if len(str(value)) <= SHOWN else f"{str(value)[:20]!r}…"


MOST_NAMES = 3
"""Most names in one proposal."""


def hint(word: str, choices: Iterable[str], default: str, taken: Iterable[str] = ()) -> str:
    """Return the fix for a *word* that is not among *choices*: to write a longer or similar one, or *default*.

    Args:
        taken: Choices that stand in this place already, and would be refused there a second time.
    """
    known = {*taken}
    free = [each for each in choices if each not in known]
    longer = [each for each in free if word and each.startswith(f"{word}-")][:MOST_NAMES]
    near = longer or get_close_matches(word, free, 1)
    return f"Write {' or '.join(near)}" if near else default


def setting_problems(error: "ValidationError", known: Iterable[str], help: str) -> Iterator[Problem]:
    """Yield the problems of settings that are no part of the fleet's own form; their keys have no prefix.

    Args:
        known: The settings at the top.
        help: The way to a list of the settings.
    """
    names = [*known]
    for detail in error.errors(include_url=False):
        value, keys = detail["input"], detail["loc"]
        if detail["type"] == "extra_forbidden":
            near = hint(str(keys[-1]), names, help) if len(keys) == 1 else help
            yield Problem(f"got {keys[-1]!r}", "there is no such setting", near, keys)
            continue
        shown = value if isinstance(value, str | int | float | bool | None) else "other values"
        message = detail["msg"].removeprefix("Value error, ")
        yield Problem(f"got {shown!r}", message[:1].lower() + message[1:], help, keys)


def line_problem(text: str, has_lines: bool = False) -> Problem | None:
    """Return the problem of a character in *text* that is not printed; None if there is none.

    Such characters end lines of files, move the cursor of a terminal, or show a text in another order than it has.

    Args:
        has_lines: Whether line breaks and tabulators are valid.
    """
    if text.isprintable():
        return None
    rest = (sign for sign in text if not sign.isprintable() and not (has_lines and sign in "\n\t"))
    if (sign := next(rest, None)) is None:
        return None
    expected = "a text of printable characters" + ("" if has_lines else ", in one line")
    return Problem(f"got the character U+{ord(sign):04X} in {excerpt(text)}", expected, "Remove the character")
