"""k-anonymity and l-diversity of masked records, by digests of their quasi-identifiers."""

import hashlib

from typing_extensions import TypedDict

from rackwright.masking.records import Record, value_at
from rackwright.schema.masking import QuasiIdentifiers

GROUPS_MAX = 2_000_000
"""Most groups: 2 million take 300 MB."""


class AnonymityData(TypedDict):
    """How many records share their quasi-identifiers."""

    k: int
    """Fewest records of a group, as the policy demands."""
    smallest: int
    """Records of the smallest group."""
    groups: int
    """Groups of records with the same quasi-identifiers."""
    small_groups: int
    """Groups with fewer than k records."""
    small_records: int
    """Records in these groups."""
    l: int | None  # noqa: E741 -- the name of the measure
    """Fewest different sensitive values of a group, as the policy demands."""
    uniform_groups: int
    """Groups with fewer than l different sensitive values."""


class Groups:
    """Counts records by their quasi-identifiers."""

    def __init__(self, quasi: QuasiIdentifiers) -> None:
        self._quasi = quasi
        self._counts: dict[bytes, int] = {}
        self._sensitive: dict[bytes, set[bytes]] = {}
        self._uncounted = 0

    def add(self, record: Record) -> None:
        """Count the masked *record*."""
        key = _digest([value_at(record, name) for name in self._quasi.columns])
        if key not in self._counts and len(self._counts) >= GROUPS_MAX:
            self._uncounted += 1
            return
        self._counts[key] = self._counts.get(key, 0) + 1
        if self._quasi.sensitive and self._quasi.l:
            seen = self._sensitive.setdefault(key, set())
            if len(seen) < self._quasi.l:
                seen.add(_digest([value_at(record, self._quasi.sensitive)]))

    def result(self) -> AnonymityData:
        """Return the numbers of all records so far."""
        small = [count for count in self._counts.values() if count < self._quasi.k]
        return {
            "k": self._quasi.k,
            "smallest": min(self._counts.values(), default=0),
            "groups": len(self._counts),
            "small_groups": len(small) + (self._uncounted > 0),  # the size of a group that is not counted is not known
            "small_records": sum(small) + self._uncounted,
            "l": self._quasi.l,
            "uniform_groups": sum(len(seen) < (self._quasi.l or 0) for seen in self._sensitive.values()),
        }


def is_anonymous(data: AnonymityData) -> bool:
    """Return whether each group is large and diverse enough."""
    return not data["small_groups"] and not data["uniform_groups"]


def _digest(values: list[object]) -> bytes:
    texts = [None if each is None else str(each) for each in values]
    return hashlib.blake2b(repr(texts).encode(), digest_size=8).digest()
