"""The diffs of files that differ: facts have digests of files only, so the texts come from the plans and the hosts."""

from collections.abc import Callable, Mapping, Sequence

from rackwright.audit.report import AuditReport, AuditResult, Evidence
from rackwright.core.wording import format_changes
from rackwright.errors import UserError
from rackwright.kinds.shared.unit_overrides import split_overrides
from rackwright.kinds.shared.unknown_facts import refuse_unknown
from rackwright.stack import DeclaredResource, Stack

ReadTexts = Callable[[str, Sequence[str]], Mapping[str, str | None]]
"""A function that returns the present texts of files of a host, None for a missing one."""


def read_diffs(
    stack: Stack,
    resources: Sequence[DeclaredResource],
    report: AuditReport,
    evidence: Evidence,
    read_texts: ReadTexts,
) -> dict[tuple[str, str], str]:
    """Return the diff of each file that differs in *report*, by resource and thing; files with secrets are left out."""
    results = {result.name: result for result in report.results}
    diffs: dict[tuple[str, str], str] = {}
    for declared in resources:
        result = results.get(declared.name)
        if result is not None and (texts := _wanted_texts(stack, declared, result, evidence)):
            try:
                present = read_texts(declared.source, [*texts])
            except UserError:
                continue  # the account may only run the probe, or the host has gone
            for path, text in texts.items():
                diffs[declared.name, f"file:{path}"] = format_changes(present, {path: text})
    return diffs


def _wanted_texts(
    stack: Stack, declared: DeclaredResource, result: AuditResult, evidence: Evidence
) -> Mapping[str, str]:
    """Return the declared text of each file that differs, by path."""
    secret = {item.thing for item in result.differences if item.secret}
    files = {item.thing for item in result.known_differences if item.thing.startswith("file:")} - secret
    facts = evidence.get(declared.source)
    if not files or facts is None or isinstance(facts, UserError):
        return {}
    plannable, _ = split_overrides(result.differences)
    spec, repository = declared.spec, stack.repository
    plan = refuse_unknown(declared.name, lambda: declared.kind.plan(spec, plannable, facts, repository))
    return {path: text for path, text in plan.texts.items() if f"file:{path}" in files}
