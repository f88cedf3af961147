"""What is wrong with one declared value, before it is known where it was written."""

from collections.abc import Iterable
from difflib import get_close_matches

Keys = tuple[str | int, ...]
"""The way to a value: ``("hosts", "node-1", "drives", 0, "serial")``."""


class Problem(ValueError):
    """Raised by validators; the loader adds the file, the line and the path.

    Args:
        got: What was written, as a person would quote it.
        want: What would be accepted, as a clause.
        fix: The way there, as a sentence without its full stop.
        path: Where below the value that was validated; empty for the value itself.
        source: Who says so.
        also: Where the other value stands that it cannot stand beside, below the same value as *path*.
    """

    def __init__(
        self, got: str, want: str, fix: str, path: Keys = (), source: str = "", *, also: Keys | None = None
    ) -> None:
        super().__init__(f"{got}; {want}. {fix}.")
        self.got, self.want, self.fix, self.path, self.source, self.also = got, want, fix, path, source, also


class Problems(ValueError):
    """Several at once, each with its path below the value that was validated."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__(" ".join(map(str, self.problems)))


def raise_any(problems: Iterable[Problem]) -> None:
    """Raise Problems when there is one."""
    if found := tuple(problems):
        raise Problems(found)


def hint(written: str, known: Iterable[str], otherwise: str) -> str:
    """Return how to mend a word that is none of *known*: write the one it comes near to, or *otherwise*."""
    near = get_close_matches(written, known, 1)
    return f"Write {near[0]}" if near else otherwise
