"""Masking of records by a policy, with the counts of its report."""

from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from rackwright.masking import generalise, recognisers
from rackwright.masking.findings import Findings
from rackwright.masking.pseudonyms import Pseudonyms, canonical
from rackwright.masking.recognisers import Recogniser
from rackwright.masking.records import Record, Walker, value_at
from rackwright.schema.masking import MaskedColumn, MaskingPolicy, TextRules

LOOKED_AT = 10_000
"""First values of a kept column that are compared with each other."""
DISTINCT_SHARE, DISTINCT_LEAST = 0.9, 100
"""Share of different values among at least so many, from which a kept column looks like an identifier."""


@dataclass
class ColumnCounts:
    """The numbers of one column."""

    values: int = 0
    """Values that are not empty."""
    changed: int = 0
    """Values that are not as before."""
    found: Counter[str] = field(default_factory=Counter)
    """Identifiers in texts, by kind: replaced ones, and in kept columns those that stay."""
    hashes: set[int] = field(default_factory=set)
    """Hashes of the first values of a kept column; the process keeps them and no report has them."""
    compared: int = 0

    @property
    def is_distinct(self) -> bool:
        """Whether nearly all values differ from each other."""
        return self.compared >= DISTINCT_LEAST and len(self.hashes) >= DISTINCT_SHARE * self.compared


class Masker:
    """Masks records, and counts what it does."""

    def __init__(self, policy: MaskingPolicy, pseudonyms: Pseudonyms) -> None:
        self._pseudonyms = pseudonyms
        self._recogniser = Recogniser(policy.text or TextRules(countries=()))
        self._walker = Walker(policy.columns, self._mask, findings := Findings())
        self._place = ""
        self.findings = findings
        self.columns: dict[str, ColumnCounts] = defaultdict(ColumnCounts)
        self._rules: dict[str, Callable[[str, MaskedColumn, Any, Record], Any]] = {
            "pseudonym": self._pseudonym,
            "generalise": lambda path, column, value, record: generalise.generalise(column, value),
            "shift_dates": self._shift,
            "keep": self._keep,
            "text": self._text,
        }

    def mask(self, record: Record, place: str) -> Record:
        """Return the masked *record*. Values and columns that have no rule that fits are in `findings`.

        Args:
            place: File and number of the record.
        """
        self._place = place
        return self._walker.walk(record, place)

    def _mask(self, path: str, column: MaskedColumn, value: Any, record: Record) -> Any:
        counts = self.columns[path]
        counts.values += 1
        try:
            masked = self._rules[column.rule](path, column, value, record)
        except generalise.WrongValue as error:
            self.findings.add(path, f"{error}", self._place, path)
            return None
        counts.changed += masked is not value and masked != value
        return masked

    def _pseudonym(self, path: str, column: MaskedColumn, value: Any, record: Record) -> str:
        return self._pseudonyms.name(column.domain or path, value)

    def _shift(self, path: str, column: MaskedColumn, value: Any, record: Record) -> Any:
        person = value_at(record, column.person or "")
        if person is None or str(person).strip() == "":
            raise generalise.WrongValue(f"a value of {column.person} in each record with dates")
        return generalise.shift(column, value, self._pseudonyms.days(person, column.days))

    def _text(self, path: str, column: MaskedColumn, value: Any, record: Record) -> Any:
        if isinstance(value, bool):
            return value
        text = canonical(value) if isinstance(value, float) else str(value)
        try:
            hits = self._recogniser.find(text)
        except recognisers.TooManyNumbers:
            raise generalise.WrongValue(f"texts with {recognisers.CHECKS_MAX} numbers at most") from None
        if not hits:
            return value
        self.columns[path].found.update(hit.kind for hit in hits)
        return recognisers.replace(text, hits, [self._pseudonyms.name(hit.kind, hit.value) for hit in hits])

    def _keep(self, path: str, column: MaskedColumn, value: Any, record: Record) -> Any:
        counts, text = self.columns[path], canonical(value) if isinstance(value, float) else str(value)
        try:
            counts.found.update(hit.kind for hit in self._recogniser.find(text))
        except recognisers.TooManyNumbers:
            counts.found["number"] += 1
        if counts.compared < LOOKED_AT and not isinstance(value, bool | float):
            counts.compared += 1
            counts.hashes.add(hash(text))
        return value
