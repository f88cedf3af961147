"""The check of masked data against their policy, without the key."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from typing_extensions import TypedDict

from rackwright.errors import quantity
from rackwright.masking import generalise, pseudonyms
from rackwright.masking.anonymity import AnonymityData, Groups
from rackwright.masking.findings import UNNAMED, Findings
from rackwright.masking.formats import Format, open_reader, quoting_nothing
from rackwright.masking.parquet_format import metadata_leaks
from rackwright.masking.policy import digest
from rackwright.masking.recognisers import Recogniser, TooManyNumbers
from rackwright.masking.records import Record, Walker
from rackwright.masking.sources import STDIN, Source, list_sources
from rackwright.progress import Progress, ignore
from rackwright.schema.masking import MaskedColumn, MaskingPolicy, TextRules
from workloads.masking_report import FILE, report_problem, sha256_of_file

PROGRESS_RECORDS = 10_000


class CheckFinding(TypedDict):
    """A difference between data and their policy."""

    column: str
    """Name of the column in the policy, or ``file``, ``report`` or ``quasi_identifiers``. A column that the policy does
    not name is a position, such as ``column 3``."""
    problem: str
    """Difference from the policy."""
    count: int
    """Number of values or records."""
    place: str
    """Place of the first one: a file and its record."""


class MaskingCheck(TypedDict):
    """The comparison of data with their policy."""

    policy: str
    """Name of the policy."""
    records: int
    """Number of records."""
    findings: list[CheckFinding]
    """All differences."""
    anonymity: AnonymityData | None
    """How many records share their quasi-identifiers; null without such a declaration."""


class _CheckedFile(NamedTuple):
    """One file that was read through one descriptor."""

    records: int
    sha256: str
    """Digest of its content; empty for standard input."""
    metadata: list[CheckFinding]


class Checker:
    """Compares masked records with a policy."""

    def __init__(self, policy: MaskingPolicy) -> None:
        self.findings = Findings()
        self._recogniser = Recogniser(policy.text or TextRules(countries=()))
        self._forms = {
            name: pseudonyms.pattern(column.domain or name)
            for name, column in policy.columns.items()
            if column.rule == "pseudonym"
        }
        # a dropped column is one without a rule: it is not in masked data
        left = {name: column for name, column in policy.columns.items() if column.rule != "drop"}
        self._walker = Walker(left, self._check, self.findings)
        self._place = ""

    def check(self, record: Record, place: str) -> None:
        """Compare the masked *record*."""
        self._place = place
        self._walker.walk(record, place)

    def _check(self, path: str, column: MaskedColumn, value: Any, record: Record) -> None:
        if problem := self._problem(path, column, value):
            self.findings.add(path, problem, self._place, path)

    def _problem(self, path: str, column: MaskedColumn, value: Any) -> str:
        match column.rule:
            case "pseudonym":
                is_one = isinstance(value, str) and self._forms[path].fullmatch(value)
                return "" if is_one else "a value is no pseudonym"
            case "generalise":
                return "" if generalise.is_generalised(column, value) else f"a value is not generalised to {column.to}"
            case "shift_dates":
                return "" if generalise.is_shifted(column, value) else "a value is no date as the masking writes it"
            case "text":
                try:
                    kinds = sorted({hit.kind for hit in self._recogniser.find(str(value))})
                except TooManyNumbers:
                    return "a text has too many numbers"
                return f"a text has an identifier ({', '.join(kinds)})" if kinds else ""
        return ""


def check_data(
    policy: MaskingPolicy, source: str, form: Format | None = None, progress: Progress = ignore
) -> MaskingCheck:
    """Return the comparison of the masked data *source* with *policy* and with their report.

    Raises:
        ChangeRefused: A file is missing, or not of its format.
    """
    sources = list_sources(source, form, policy, but=FILE)
    checker, groups = Checker(policy), Groups(policy.groups) if policy.groups else None
    checked = [_check_file(each, policy, checker, groups, progress) for each in sources]
    found: list[CheckFinding] = [
        {
            "column": finding.label,
            "problem": "the column has no rule, or is dropped" if reason == UNNAMED else reason,
            "count": finding.count,
            "place": finding.first,
        }
        for (_, reason), finding in checker.findings.by_column.items()
    ]
    if checker.findings.further:
        found.append(_finding("file", "further columns have no rule", checker.findings.further, source))
    found += [finding for each in checked for finding in each.metadata]
    anonymity = groups.result() if groups else None
    if anonymity:
        found += [_finding("quasi_identifiers", problem, count, source) for problem, count in _small(anonymity)]
    if source != STDIN:
        digests = {each.path: file.sha256 for each, file in zip(sources, checked, strict=True) if each.path}
        problem = report_problem(Path(source), digests, digest(policy), whole=True)
        found += [_finding("report", problem, 1, source)] if problem else []
    return {
        "policy": policy.policy,
        "records": sum(each.records for each in checked),
        "findings": found,
        "anonymity": anonymity,
    }


def _check_file(
    source: Source, policy: MaskingPolicy, checker: Checker, groups: Groups | None, progress: Progress
) -> _CheckedFile:
    number = 0
    with quoting_nothing(source.name), source.open() as file:
        sha256 = ""
        if source.path is not None:
            sha256 = sha256_of_file(file)
            file.seek(0)
        reader = open_reader(file, source.form, policy)
        if reader.columns:
            checker.check(dict.fromkeys(reader.columns), f"{source.name}: line 1")
        for number, record in enumerate(reader, 1):
            checker.check(record, f"{source.name}: record {number}")
            if groups:
                groups.add(record)
            if number % PROGRESS_RECORDS == 0:
                progress(f"checking: {source.name}, {quantity(number, 'record')}")
        leaks = metadata_leaks(file) if source.form == "parquet" else []
    return _CheckedFile(number, sha256, [_finding("file", f"Parquet has {sort}", 1, source.name) for sort in leaks])


def _small(data: AnonymityData) -> Iterator[tuple[str, int]]:
    """Yield the problems of groups that are too small or too uniform, with their number."""
    if count := data["small_groups"]:
        yield f"groups have fewer than {data['k']} {data['unit']}s; the smallest has {data['smallest']}", count
    if count := data["uniform_groups"]:
        yield f"groups have fewer than {data['l']} different sensitive values", count


def _finding(column: str, problem: str, count: int, place: str) -> CheckFinding:
    return {"column": column, "problem": problem, "count": count, "place": place}
