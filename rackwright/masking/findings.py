"""Findings about columns: their numbers and first records, and never a value."""

from collections.abc import Iterator
from dataclasses import dataclass, field

from rackwright.errors import Diagnostic, quantity
from rackwright.masking.recognisers import Recogniser
from rackwright.schema.masking import MaskingPolicy, TextRules

NAMES_MAX = 40
"""Most columns that are reported one by one: more keys than that are data, not columns."""
NAME_LONGEST = 60


@dataclass
class Finding:
    """Values of a column with the same problem."""

    count: int
    """Number of its values."""
    first: str
    """Place of the first one: a file and its record."""


@dataclass
class Findings:
    """All findings, by column and reason."""

    by_column: dict[tuple[str, str], Finding] = field(default_factory=dict)
    further: int = 0
    """Findings about further columns."""
    has_known: bool = False
    """Whether a column of the policy was seen: if not, the names in the data may be data."""

    def add(self, column: str, reason: str, place: str) -> None:
        """Note one value of *column* with *reason*."""
        if (found := self.by_column.get((column, reason))) is not None:
            found.count += 1
        elif len(self.by_column) < NAMES_MAX:
            self.by_column[column, reason] = Finding(1, place)
        else:
            self.further += 1

    def __bool__(self) -> bool:
        return bool(self.by_column)


class ColumnNames:
    """The names of columns as messages print them: a key or the first line of a file may be personal data too."""

    def __init__(self, policy: MaskingPolicy) -> None:
        self._known = policy.columns.keys()
        self._recogniser = Recogniser(policy.text or TextRules(countries=()))

    def show(self, name: str, has_known: bool = True) -> str:
        """Return *name* if the policy has it, or if it looks like a name; otherwise a description.

        Args:
            has_known: Whether the policy has another column of the data.
        """
        if name in self._known:
            return name
        looks_like_one = name.isprintable() and len(name) <= NAME_LONGEST and sum(map(str.isdigit, name)) < 5
        if has_known and looks_like_one and " " not in name and not self._recogniser.find(name):
            return name
        return f"a name of {quantity(len(name), 'character')}"


UNNAMED = "no rule"
"""Reason of columns that the policy does not name."""


def refusals(findings: Findings, policy: MaskingPolicy, file: str) -> Iterator[Diagnostic]:
    """Yield a diagnostic for each finding of masking.

    Args:
        file: The file of *policy*, as the user wrote it.
    """
    names = ColumnNames(policy)
    for (column, reason), found in findings.by_column.items():
        where = f"{found.first}: {names.show(column, findings.has_known)}"
        if reason == UNNAMED:
            expected = f"the policy {policy.policy} has a rule for each column"
            note = (
                "" if findings.has_known else "no column of the policy is in the data: the first line may be no header"
            )
            yield Diagnostic(where, "the column has no rule", expected, f"Write a rule for it in {file}", note)
        else:
            problem = f"{quantity(found.count, 'value')} cannot be masked by its rule"
            yield Diagnostic(where, problem, reason, f"Correct the data, or the rule in {file}")
    if findings.further:
        problem = f"{quantity(findings.further, 'value')} of further columns without a rule"
        yield Diagnostic(file, problem, "a few columns", "Drop the object whose keys are data")
