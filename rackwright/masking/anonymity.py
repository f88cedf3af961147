"""k-anonymity and l-diversity of masked records, by digests of their quasi-identifiers."""

import hashlib
import json
import secrets
from typing import Any, Literal

from typing_extensions import TypedDict

from rackwright.masking.fold import fold
from rackwright.masking.pseudonyms import canonical
from rackwright.masking.records import MISSING, Record, value_at
from rackwright.schema.masking import QuasiIdentifiers

GROUPS_MAX = 2_000_000
"""Most groups: 2 million take 300 MB."""


class AnonymityData(TypedDict):
    """How many records share their quasi-identifiers."""

    unit: Literal["record", "person"]
    """Unit of k: different persons if the policy names a column of them, else records."""
    k: int
    """Fewest records of a group, as the policy demands."""
    smallest: int
    """Records of the smallest group, or its persons, which are counted up to k."""
    groups: int
    """Groups of records with the same quasi-identifiers."""
    small_groups: int
    """Groups with fewer than k records, or persons."""
    small_records: int
    """Records in these groups."""
    l: int | None  # noqa: E741 -- the name of the measure
    """Fewest different sensitive values of a group, as the policy demands."""
    uniform_groups: int
    """Groups with fewer than l different sensitive values."""


class Groups:
    """Counts records, or the persons in them, by their quasi-identifiers as they are written."""

    def __init__(self, quasi: QuasiIdentifiers) -> None:
        self._quasi = quasi
        self._key = secrets.token_bytes(32)
        self._persons: dict[bytes, set[bytes]] = {}
        """Persons of groups that have fewer than k so far."""
        self._counts: dict[bytes, int] = {}
        self._sensitive: dict[bytes, set[bytes]] = {}
        self._uncounted = 0

    def add(self, record: Record) -> None:
        """Count the masked *record*."""
        key = self._digest([_output_form(value_at(record, name, MISSING)) for name in self._quasi.columns])
        if key not in self._counts and len(self._counts) >= GROUPS_MAX:
            self._uncounted += 1
            return
        self._counts[key] = self._counts.get(key, 0) + 1
        if self._quasi.person:
            self._add_person(key, value_at(record, self._quasi.person))
        if self._quasi.sensitive and self._quasi.l:
            seen = self._sensitive.setdefault(key, set())
            if len(seen) < self._quasi.l:
                meaning = _meaning(value_at(record, self._quasi.sensitive))
                seen |= {self._digest([meaning])} if meaning else set()

    def _add_person(self, key: bytes, person: Any) -> None:
        if self._counts[key] == 1:
            self._persons[key] = set()
        if (persons := self._persons.get(key)) is not None and person is not None and _meaning(person):
            persons.add(self._digest([canonical(person)]))
            if len(persons) >= self._quasi.k:
                del self._persons[key]

    def result(self) -> AnonymityData:
        """Return the numbers of all records so far."""
        if self._quasi.person:
            small = [self._counts[key] for key in self._persons]
            smallest = min(map(len, self._persons.values()), default=min(len(self._counts), 1) * self._quasi.k)
        else:
            small = [count for count in self._counts.values() if count < self._quasi.k]
            smallest = min(self._counts.values(), default=0)
        return {
            "unit": "person" if self._quasi.person else "record",
            "k": self._quasi.k,
            "smallest": smallest,
            "groups": len(self._counts),
            "small_groups": len(small) + (self._uncounted > 0),  # the size of a group that is not counted is not known
            "small_records": sum(small) + self._uncounted,
            "l": self._quasi.l,
            "uniform_groups": sum(len(seen) < (self._quasi.l or 0) for seen in self._sensitive.values()),
        }

    def _digest(self, parts: list[Any]) -> bytes:
        return hashlib.blake2b(json.dumps(parts).encode(), digest_size=16, key=self._key).digest()


def is_anonymous(data: AnonymityData) -> bool:
    """Return whether each group is large and diverse enough."""
    return not data["small_groups"] and not data["uniform_groups"]


def _output_form(value: Any) -> list[str]:
    """Return *value* as its file has it: the number 8000 and the text "8000" differ, and so do null and nothing."""
    if value is MISSING:
        return []
    return [type(value).__name__, str(value)]


def _meaning(value: Any) -> str:
    """Return *value* as a reader understands it, without case, blanks and signs that are not seen; empty for none."""
    return "" if value is None else " ".join(fold(canonical(value)).text.split()).casefold()
