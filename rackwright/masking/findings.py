"""Findings about columns: their numbers and first records, and never a value."""

from collections.abc import Iterator
from dataclasses import dataclass, field

from rackwright.errors import Diagnostic, quantity
from rackwright.schema.masking import MaskingPolicy

NAMES_MAX = 40
"""Most columns that are reported one by one: more keys than that are data, not columns."""


@dataclass
class Finding:
    """Values of a column with the same problem."""

    count: int
    """Number of its values."""
    label: str
    """The column for messages: names of the policy, and positions in the place of all others, which may be data."""
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

    def add(self, column: str, reason: str, place: str, label: str) -> None:
        """Note one value of *column* with *reason*; see `Finding` for *label*."""
        if (found := self.by_column.get((column, reason))) is not None:
            found.count += 1
        elif len(self.by_column) < NAMES_MAX:
            self.by_column[column, reason] = Finding(1, label, place)
        else:
            self.further += 1

    def __bool__(self) -> bool:
        return bool(self.by_column)


UNNAMED = "no rule"
"""Reason of columns that the policy does not name."""


def refusals(findings: Findings, policy: MaskingPolicy, file: str) -> Iterator[Diagnostic]:
    """Yield a diagnostic for each finding of masking.

    Args:
        file: The file of *policy*, as the user wrote it.
    """
    for (_, reason), found in findings.by_column.items():
        where = f"{found.first}: {found.label}"
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
