"""The program that answers with the metrics of audits, which the account of the scheduled audits has written.

systemd starts it for each connection to its Unix socket, with the rights of that account alone.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from rackwright.facts.metrics_text import is_value, parse_labels, respond_with
from rackwright.facts.probe.observe import attempt, list_untrusted, read_untrusted

FOLDER = "/var/lib/rackwright-audit"
NAME = re.compile(r"([a-z0-9][a-z0-9-]{0,62})[.]prom", re.ASCII)
STACKS_MAX, LINES_MAX = 32, 1000
LINE = re.compile(r"(rackwright_audit_\w{1,80})\{(.{0,4000}?)\} (\S{1,40})", re.ASCII)


def respond(folder: str = FOLDER) -> None:
    """Answer one HTTP request of the proxy on standard input and output."""
    respond_with(lambda: metrics(folder))


def metrics(folder: str) -> str:
    """Return the metrics of all stacks in Prometheus's text format."""
    names = [found for found in map(NAME.fullmatch, list_untrusted(folder, pattern="*.prom")) if found]
    families: dict[str, list[str]] = {}
    for name in names[:STACKS_MAX]:
        content = attempt(read_untrusted, folder, name[0])
        text = content.decode(errors="replace") if isinstance(content, bytes) else ""
        for family, line in lines_of(name[1], text):
            families.setdefault(family, []).append(line)
    return "".join(f"{line}\n" for family in sorted(families) for line in families[family])


def lines_of(stack: str, text: str) -> Iterator[tuple[str, str]]:
    """Yield name and line of each sample about *stack*; Prometheus refuses a whole answer for one odd line."""
    for line in text.splitlines()[:LINES_MAX]:
        found = LINE.fullmatch(line)
        labels = parse_labels(found[2]) if found else None
        if found and labels and labels.get("stack") == stack and is_value(found[3]):
            yield found[1], line
