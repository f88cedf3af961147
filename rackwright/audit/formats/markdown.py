"""The report as Markdown, for the description or a comment of a merge request."""

import re
from collections.abc import Iterator

from rackwright.audit.formats.document import AuditDocument, by_host, format_counts
from rackwright.audit.formats.finding import Finding
from rackwright.errors import one_line, visible

_MARKS = re.compile(r"([\\`*_{}\[\]<>()#+!|~$&^=-])")
ALLOWED_MAX = 20
"""Allowed things that are listed at most; the totals have their number."""
NOTE_MAX = 200
"""Characters of an allowed thing or a notice that are shown at most."""
LENGTH_MAX = 50_000
"""Length of the text from which on findings are only counted: merge requests refuse texts of more than 65536."""


def render(document: AuditDocument) -> str:
    """Return *document* with a table for each host, then the remedies and the diffs."""
    lines = [f"### Audit of {code(document.report.stack)}: {_verdict(document)}", "", escape(format_counts(document))]
    length = sum(map(len, lines))
    counting = [finding for finding in document.findings if finding.is_new]
    allowed = [finding for finding in document.findings if finding.allowed]
    shown = 0
    for host, findings in by_host(counting).items():
        part = list(_host(host, findings))
        length += sum(len(line) + 1 for line in part)
        if length > LENGTH_MAX:
            break
        lines += part
        shown += len(findings)
    if shown < len(counting):
        lines += ["", f"{len(counting) - shown} more findings are left out: a merge request has no room for them."]
    for finding in allowed[:ALLOWED_MAX]:
        thing = f"{finding.host}: {finding.rule} {finding.path}"
        lines += ["", f"Allowed: {code(thing[:NOTE_MAX])}: {code(finding.allowed[:NOTE_MAX])}"]
    for subject, text in document.notices.items():
        lines += ["", f"Notice: {code(subject)}: {code(text[:NOTE_MAX])}"]
    return "\n".join(lines) + "\n"


def _verdict(document: AuditDocument) -> str:
    return {0: "as declared", 3: "partly unknown"}.get(document.exit_status, "not as declared")


def _host(host: str, findings: tuple[Finding, ...]) -> Iterator[str]:
    yield from (
        "",
        f"#### {code(host)}",
        "",
        "| | resource | path | found | wanted | declared at |",
        "|" + " --- |" * 6,
    )
    for finding in findings:
        label = f"{finding.state}, {finding.severity}"
        cells = (finding.resource, finding.path, finding.found, finding.wanted, finding.place)
        yield f"| {label} | " + " | ".join(map(code, cells)) + " |"
    remedies = list(dict.fromkeys(finding.remedy for finding in findings if finding.remedy))
    yield from ("",) if remedies else ()
    for remedy in remedies:
        yield f"- {escape(remedy)}"
    for finding in findings:
        if finding.diff:
            yield from ("", f"<details><summary>{escape(finding.path)}</summary>", "", *_code_block(finding.diff), "")
            yield "</details>"


def code(text: str) -> str:
    """Return *text* as code in a cell of a table: nothing in it is a link, a mention, a tag or the end of the cell."""
    line = one_line(text).replace("|", "\\|")
    if not line.strip():
        return ""
    fence = "`" * (max(map(len, re.findall("`+", line)), default=0) + 1)
    pad = " " if line.startswith(("`", " ")) or line.endswith(("`", " ")) else ""
    return f"{fence}{pad}{line}{pad}{fence}"


def escape(text: str) -> str:
    """Return *text* as plain text of one line, in which no character has a meaning and no name is a mention."""
    return re.sub(r"(?<!\w)@(?=\w)", "@<!-- -->", _MARKS.sub(r"\\\1", one_line(text)))


def _code_block(diff: str) -> Iterator[str]:
    fence = "`" * max(3, max(map(len, re.findall("`+", diff)), default=0) + 1)
    yield f"{fence}diff"
    yield from visible(diff).splitlines()
    yield fence
