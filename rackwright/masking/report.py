"""The report of a masking: numbers and names of columns, and no values."""

import json
from collections.abc import Iterable, Mapping

from typing_extensions import TypedDict

from rackwright import __version__
from rackwright.masking.anonymity import AnonymityData
from rackwright.masking.masker import ColumnCounts
from rackwright.masking.policy import digest
from rackwright.schema.masking import MaskingPolicy

NOT_COVERED = (
    "names of people, addresses and dates in texts",
    "numbers in words, with letters as digits or in reverse, and identifiers divided by words, lines or many signs",
    "pictures, attachments, and data in Base64 or archives",
)
"""Parts of texts in which nothing is found."""


class FileData(TypedDict):
    """One masked file."""

    name: str
    """Name of the file; in a directory its path there."""
    records: int
    """Number of its records."""
    sha256: str
    """SHA-256 digest of its bytes."""


class ColumnData(TypedDict):
    """Numbers of one column."""

    name: str
    """Name or path of the column, as in the policy."""
    rule: str
    """Rule of the column."""
    values: int
    """Values that were not empty."""
    changed: int
    """Values that are not as before."""
    found: dict[str, int]
    """Identifiers in its texts by kind: replaced ones; in columns with the rule keep, those that stay."""
    looks_like_identifier: bool
    """Whether a column with the rule keep has identifiers, or nearly as many values as records."""


class MaskingReport(TypedDict):
    """The report of a masking."""

    policy: str
    """Name of the policy."""
    policy_sha256: str
    """SHA-256 digest of the policy's content."""
    key_check: str
    """Value that follows from the key: reports with the same one have pseudonyms that can be joined."""
    version: str
    """Version of rackwright."""
    records: int
    """Number of all records."""
    files: list[FileData]
    """The masked files."""
    columns: list[ColumnData]
    """All columns of the policy."""
    anonymity: AnonymityData | None
    """How many records share their quasi-identifiers; null without such a declaration."""
    not_covered: list[str]
    """Sorts of personal data that the masking does not find."""


def report(
    policy: MaskingPolicy,
    key_check: str,
    columns: Mapping[str, ColumnCounts],
    files: Iterable[FileData],
    anonymity: AnonymityData | None,
) -> MaskingReport:
    """Return the report of a masking by *policy*."""
    listed = [*files]
    return {
        "policy": policy.policy,
        "policy_sha256": digest(policy),
        "key_check": key_check,
        "version": __version__,
        "records": sum(each["records"] for each in listed),
        "files": listed,
        "columns": [_column(name, policy.columns[name].rule, columns.get(name)) for name in policy.columns],
        "anonymity": anonymity,
        "not_covered": [*NOT_COVERED],
    }


def _column(name: str, rule: str, counts: ColumnCounts | None) -> ColumnData:
    found = counts or ColumnCounts()
    return {
        "name": name,
        "rule": rule,
        "values": found.values,
        "changed": found.changed,
        "found": dict(sorted(found.found.items())),
        "looks_like_identifier": rule == "keep" and (found.is_distinct or bool(found.found)),
    }


def to_text(content: MaskingReport) -> str:
    """Return *content* as the text of a report's file."""
    return json.dumps(content, indent=2, ensure_ascii=False) + "\n"
