"""Problems of declared values, which the loaders of fleets complete with file and line."""

from collections.abc import Iterable
from difflib import get_close_matches

Keys = tuple[str | int, ...]
"""Path to a value: ``("hosts", "node-1", "drives", 0, "serial")``."""


class Problem(ValueError):
    """A problem of a value, raised by validators; the loader adds the file, the line and the path.

    Args:
        got: The wrong value, as a message quotes it: ``got 'raid7'``.
        want: The expectation, as a clause.
        fix: The remedy, as a sentence without its full stop.
        path: Keys of the wrong value below the validated one; empty for the validated value itself.
        source: Document with the rule.
        also: Keys of the conflicting value, below the same value as *path*.
    """

    def __init__(
        self, got: str, want: str, fix: str, path: Keys = (), source: str = "", *, also: Keys | None = None
    ) -> None:
        super().__init__(f"{got}; {want}. {fix}.")
        self.got, self.want, self.fix, self.path, self.source, self.also = got, want, fix, path, source, also


class Problems(ValueError):
    """Several problems, each with its path below the validated value."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__(" ".join(map(str, self.problems)))


def raise_any(problems: Iterable[Problem]) -> None:
    """Raise Problems if there is any problem."""
    if several := tuple(problems):
        raise Problems(several)


def hint(word: str, choices: Iterable[str], default: str) -> str:
    """Return the fix for a *word* that is not among *choices*: to write the most similar choice, or *default*."""
    near = get_close_matches(word, choices, 1)
    return f"Write {near[0]}" if near else default
