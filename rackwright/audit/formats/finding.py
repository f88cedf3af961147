"""Findings: the flat records that are the only input of all report formats, and their selection."""

import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from fnmatch import translate
from functools import cached_property
from typing import Any, Literal

from rackwright.audit.report import AuditReport, AuditResult, UndeclaredThing
from rackwright.core.contract import Difference, Severity, UnknownValue
from rackwright.core.wire import encode
from rackwright.core.wording import format_changes, format_value
from rackwright.fleet.resource_place import ResourcePlaces

State = Literal["differs", "undeclared", "unknown", "not reached"]
STATES: tuple[State, ...] = ("differs", "undeclared", "unknown", "not reached")
"""All states, the ones that change the exit status to 1 first."""
SEVERITIES: tuple[Severity, ...] = ("error", "warning", "notice")
"""All severities, the heaviest first."""
HIDDEN = "(secret)"
"""The text in the place of a secret value."""
EVERYTHING = "everything"
"""Path of the finding for a resource whose host was not reached."""
UNDECLARED = "rackwright:audit:Undeclared"
"""Type of the findings about things that nothing declares."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One property that differs or is unknown, one undeclared thing, or one resource that was not reached."""

    host: str
    resource: str
    """Name of the resource, such as `HOST/TIER`."""
    type: str
    """Type of the resource for pulumi, such as `rackwright:storage:Tier`."""
    thing: str
    """Thing of the claim, such as `md:hot`; empty for a resource that was not reached."""
    path: str
    """Thing and property, such as `md:hot.bitmap`."""
    rule: str
    """Id of the rule: kind, sort of thing and property, such as `tier/md.bitmap`."""
    state: State
    severity: Severity
    found: str
    wanted: str
    remedy: str
    file: str
    """The fleet's file, relative to the project; empty if the stack has none."""
    line: int | None
    """Line that declares the thing; None if the file is no YAML."""
    diff: str = field(default="", repr=False)
    """Unified diff of a file's text; empty for other values and for secrets."""
    fingerprint: str = ""
    """Digest of resource, path, state and found value: equal in two audits for the same finding."""
    known: bool = False
    """Whether the baseline has the finding."""
    allowed: str = ""
    """Reason why the declaration allows it; empty if it does not."""

    @property
    def is_new(self) -> bool:
        """Whether neither the baseline has the finding nor the declaration allows it."""
        return not self.known and not self.allowed

    @property
    def counts(self) -> bool:
        """Whether the finding changes the exit status; an undeclared thing that is only a notice does not."""
        return self.is_new and not (self.state == "undeclared" and self.severity == "notice")

    @property
    def kind(self) -> str:
        """The kind in lower case, such as `tier`."""
        return self.type.rpartition(":")[2].lower()

    @property
    def place(self) -> str:
        """The place of the declaration: file and line."""
        return self.file if self.line is None else f"{self.file}:{self.line}"


@dataclass(frozen=True)
class Selection:
    """The findings that a report shows; only they change the exit status."""

    only: tuple[str, ...] = ()
    """Patterns, each of a kind, resource, path or rule; empty for all."""
    severity: Severity = "notice"
    """Lightest severity that is shown."""

    def shows(self, type: str, resource: str, path: str, rule: str, severity: Severity) -> bool:
        """Return whether a finding with these attributes is shown.

        A pattern of paths keeps each resource that was not reached: nothing is known about its paths.
        """
        if SEVERITIES.index(severity) > SEVERITIES.index(self.severity):
            return False
        if not self.only or (path == EVERYTHING and any(":" in pattern for pattern in self.only)):
            return True
        return any(map(self._pattern.match, (_kind(type), resource, path, rule)))

    @cached_property
    def _pattern(self) -> re.Pattern[str]:
        return re.compile("|".join(map(translate, self.only)))


ALL = Selection()
"""The selection of all findings."""
FileDiffs = Mapping[tuple[str, str], str]
"""Unified diffs of files, by resource and thing."""


def collect(
    report: AuditReport,
    places: ResourcePlaces,
    file: str,
    file_diffs: FileDiffs | None = None,
    selection: Selection = ALL,
) -> tuple[Finding, ...]:
    """Return the findings of *report* in the order of its resources, then those about undeclared things.

    Args:
        places: The lines of the fleet's file.
        file: Path of the fleet's file, relative to the project.
        file_diffs: Diffs of files of which the facts have digests only.
        selection: The findings that are returned; a large fleet has many more than its report shows.
    """
    undeclared = (
        _undeclared_finding(item, places, file)
        for item in report.undeclared
        if selection.shows(UNDECLARED, item.host, item.thing, item.rule, item.severity)
    )
    return (*_collect(report.results, places, file, file_diffs or {}, selection), *undeclared)


def _collect(
    results: Iterable[AuditResult], places: ResourcePlaces, file: str, file_diffs: FileDiffs, selection: Selection
) -> Iterator[Finding]:
    for result in results:
        kind = _kind(result.token)
        for item in result.differences:
            rule = f"{kind}/{item.thing.partition(':')[0]}.{item.name}"
            if selection.shows(result.token, result.name, item.path, rule, item.severity):
                yield _difference(result, item, rule, places, file, file_diffs)
        not_reached = f"{kind}/not-reached"
        if result.not_reached and selection.shows(result.token, result.name, EVERYTHING, not_reached, "error"):
            yield Finding(
                host=result.name.partition("/")[0],
                resource=result.name,
                type=result.token,
                thing="",
                path=EVERYTHING,
                rule=not_reached,
                state="not reached",
                severity="error",
                found=result.not_reached,
                wanted="",
                remedy="",
                file=file,
                line=places.line(result.token, result.name),
                fingerprint=_fingerprint(result.name, EVERYTHING, "not reached", None),
            )


def _difference(
    result: AuditResult, item: Difference, rule: str, places: ResourcePlaces, file: str, file_diffs: FileDiffs
) -> Finding:
    state: State = "unknown" if item.is_unknown else "differs"
    found, wanted = _values(item)
    hidden = item.secret or item.is_unknown  # the reason of an unknown value may have a number that changes
    return Finding(
        host=result.name.partition("/")[0],
        resource=result.name,
        type=result.token,
        thing=item.thing,
        path=item.path,
        rule=rule,
        state=state,
        severity=item.severity,
        found=found,
        wanted=wanted,
        remedy=item.remedy,
        file=file,
        line=places.line(result.token, result.name, item.thing, item.name),
        diff="" if hidden else _text_diff(item) or file_diffs.get((result.name, item.thing), ""),
        fingerprint=_fingerprint(result.name, item.path, state, None if hidden else encode(item.actual)),
    )


def _undeclared_finding(item: UndeclaredThing, places: ResourcePlaces, file: str) -> Finding:
    state: State = "unknown" if item.is_unknown else "undeclared"
    return Finding(
        host=item.host,
        resource=item.host,
        type=UNDECLARED,
        thing=item.thing,
        path=item.thing,
        rule=item.rule,
        state=state,
        severity=item.severity,
        found=item.found,
        wanted="",
        remedy=item.remedy,
        file=file,
        line=places.line(UNDECLARED, item.host),
        fingerprint=_fingerprint(
            f"{item.host} {item.rule}", item.thing, state, None if item.is_unknown else item.found
        ),
        allowed="" if item.allowed is None else item.allowed or "the fleet allows it",
    )


def _kind(token: str) -> str:
    return token.rpartition(":")[2].lower()


def _values(item: Difference) -> tuple[str, str]:
    """Return the texts of the found and the wanted value."""
    if isinstance(item.want, UnknownValue):
        return format_value(item.want), ""
    if item.secret:
        return (format_value(item.actual) if item.is_unknown else HIDDEN), HIDDEN
    return format_value(item.actual), format_value(item.want)


def _text_diff(item: Difference) -> str:
    """Return the diff of two texts of several lines; empty for other values."""
    if isinstance(item.want, str) and isinstance(item.actual, str) and "\n" in item.want:
        return format_changes({item.path: item.actual}, {item.path: item.want})
    return ""


def _fingerprint(resource: str, path: str, state: State, actual: Any) -> str:
    text = json.dumps([resource, path, state, actual], sort_keys=True)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:32]


def exit_status(findings: Iterable[Finding], strict: bool = False) -> int:
    """Return 0 without a finding that counts, 1 if anything differs or is undeclared, 3 if some are only unknown.

    Args:
        strict: Whether unknown properties and hosts that were not reached count like differences.
    """
    states = {finding.state for finding in findings if finding.counts}
    if states & {"differs", "undeclared"}:
        return 1
    return (1 if strict else 3) if states else 0
