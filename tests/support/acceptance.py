"""Acceptance lines: their marker, their ids, the selection by id, and the page that lists them."""

import json
import re
import subprocess
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import groupby
from pathlib import Path
from typing import TypeVar

import pytest

from tests.support.log import ROOT

Test = TypeVar("Test", bound=Callable[..., object])
NAMES = (
    *("CUDA", "GPU", "HTTP", "LUKS", "MLflow", "NVIDIA", "OpenAI", "OpenAPI", "PyTorch", "SSH", "TensorRT", "TPM"),
    *("Ansible", "CIS", "Debian", "PostgreSQL", "SmolLM2", "MiniLM", "Python", "TypeScript", "VLAN"),
)
"""Names that a sentence writes as their owners do."""
PAGE = """\
# Acceptance lines

`make accept` checks every line with the real commands, on containers and virtual machines. Each line prints its id,
`ok`, `short` or `skipped`, the figure or the reason, and the seconds. `ONLY` selects lines; blanks separate several:

    make accept ONLY=storage-life.2
    make accept ONLY='hardening.truth[remedies] hardening.14'
    make accept ONLY=serving

*Last run* has the outcome, the date, the commit, the figure or the reason, and the seconds. A run appends its outcomes
to `.rackwright/accept/results.jsonl`. This command writes the page from the tests, with the outcomes of that file:

    pytest tests/acceptance --collect-only --page docs/acceptance.md --results .rackwright/accept/results.jsonl
"""
NEVER = "none on record"
FILE = ROOT / "docs" / "acceptance.md"
LONGEST_REASON = 300
"""Characters of a figure or a reason on the page."""


def line(capability: str, number: int | str, part: str = "") -> Callable[[Test], Test]:
    """Mark a test as the check of an acceptance line, or of one *part* of it.

    Parameters of a parametrized test are further parts of the line.
    """

    def mark(test: Test) -> Test:
        return pytest.mark.acceptance(pytest.mark.line(capability, number, part)(test))

    return mark


@dataclass(frozen=True)
class Line:
    """One acceptance line, or one part of it."""

    capability: str
    number: int | str
    part: str
    sentence: str

    @property
    def id(self) -> str:
        return f"{self.capability}.{self.number}" + (f"[{self.part}]" if self.part else "")

    @property
    def order(self) -> tuple[str, bool, int, str]:
        """The place of the line; the parts of a line keep the order of their files, whose tests may share a host."""
        number = self.number if isinstance(self.number, int) else 0
        return self.capability, number == 0, number, str(self.number)


def line_of(item: pytest.Function) -> Line:
    """Return the line that *item* checks.

    Raises:
        pytest.UsageError: The test has no marker.
    """
    marker = item.get_closest_marker("line")
    if marker is None:
        raise pytest.UsageError(f"{item.nodeid} has no @line(capability, number)")
    capability, number, part = marker.args
    parameter = item.callspec.id if hasattr(item, "callspec") else ""
    return Line(capability, number, part or parameter, sentence(item.originalname))


def sentence(name: str) -> str:
    """Return the sentence that a test's *name* is."""
    words = name.removeprefix("test_").split("_")
    written = {each.lower(): each for each in NAMES}
    text = " ".join(written.get(word, word) for word in words)
    return text[0].upper() + text[1:]


def selects(only: str, id: str) -> bool:
    """Return whether *only* names *id*: the line itself, its line, or its capability."""
    return id == only or id.startswith((f"{only}.", f"{only}["))


def unmatched_names(only: Iterable[str], ids: Sequence[str]) -> list[str]:
    """Return each of *only* that selects none of *ids*."""
    return [each for each in only if not any(selects(each, id) for id in ids)]


def duplicates(ids: Sequence[str]) -> list[str]:
    """Return the ids that occur more than once."""
    return sorted({id for id in ids if ids.count(id) > 1})


@dataclass(frozen=True)
class Result:
    """The outcome of one run of a line."""

    line: str
    word: str
    """``ok``, ``short`` or ``skipped``."""
    reason: str
    seconds: float
    date: str
    commit: str

    @classmethod
    def now(cls, line: str, word: str, reason: str, seconds: float) -> "Result":
        """Return the outcome of a run that ends now, of the commit that is checked out."""
        argv = ("git", "describe", "--always", "--dirty=+", "--exclude=*")
        described = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True)
        commit = described.stdout.strip() or "unknown"
        return cls(line, word, reason, round(seconds), datetime.now(UTC).date().isoformat(), commit)

    @property
    def cell(self) -> str:
        """The outcome in a table: without paths of the computer, and without characters of tables and code."""
        reason = re.sub(r"(?<![\w.])/(tmp|root|home|work|var/tmp)/\S*", "…", self.reason)
        reason = " ".join(reason.replace("|", "/").replace("`", "").split())
        shown = reason if len(reason) <= LONGEST_REASON else f"{reason[:LONGEST_REASON]}…"
        return f"{self.word}, {self.date}, {self.commit}: {shown} ({self.seconds:.0f} s)"


def read_results(path: Path) -> dict[str, str]:
    """Return the cell of the last outcome of each line in the file *path*."""
    return {each.line: each.cell for each in (Result(**json.loads(text)) for text in path.read_text().splitlines())}


def read_page(path: Path) -> dict[str, str]:
    """Return the cell of each line on the page *path*."""
    return dict(re.findall(r"^\| `([^`]+)` \| [^|]* \| ([^|]+) \|$", path.read_text(), re.MULTILINE))


def page(lines: Sequence[Line], runs: Mapping[str, str]) -> str:
    """Return the text of docs/acceptance.md for *lines*, which are in order, with the cells of their last *runs*."""
    text = PAGE
    for capability, own in groupby(lines, key=lambda each: each.capability):
        text += f"\n## {capability}\n\n| line | sentence | last run |\n| --- | --- | --- |\n"
        text += "".join(f"| `{each.id}` | {each.sentence}. | {runs.get(each.id, NEVER)} |\n" for each in own)
    return text
