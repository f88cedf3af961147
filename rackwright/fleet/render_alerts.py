"""The alert rules of a fleet: data of `alert_rules/`, with the thresholds that its hosts declare."""

import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from rackwright.schema.alerts import Alerts

FOLDER = Path(__file__).with_name("alert_rules")
RUNBOOK = "docs/runbooks/monitoring.md"
"""The page with a section for each alert."""
ALERTS_OF_HOST, ALERTS_OF_SERVICE = 50, 8
"""Alerts of one rule about one host, and about one server or run of it: hosts and accounts choose numbers of series."""
JOBS_OF_FIGURES = {"gpus": "gpu", "control_planes": "cluster"}
"""Jobs of rules about metrics in files of node_exporter, by the figure of a host that has the file."""
PLACEHOLDER = re.compile(r"@\{(\w+)\}")
Rule = Mapping[str, Any]


@cache
def topics() -> Mapping[str, Sequence[Rule]]:
    """Return the rules without values, by topic: the names of the files in `alert_rules/`."""
    return {path.stem: yaml.safe_load(path.read_text()) for path in sorted(FOLDER.glob("*.yaml"))}


def alert_names() -> tuple[str, ...]:
    """Return the names of all alerts."""
    return tuple(rule["alert"] for rules in topics().values() for rule in rules)


def render(
    jobs: Mapping[str, Sequence[str]],
    alerts: Mapping[str, Alerts],
    delays: Mapping[str, int],
    figures: Mapping[str, Mapping[str, float]],
    audits: Mapping[str, tuple[int, str]],
) -> dict[str, list[dict[str, Any]]]:
    """Return the rules by topic, as Prometheus has them.

    Args:
        jobs: Exporters by host.
        alerts: Thresholds by host. Hosts with equal thresholds share a rule.
        delays: Seconds until an alert fires, by its name, instead of those of its rule.
        figures: Figures of a host beside its thresholds, by host and name: its number of GPUs if an exporter reads them
            (`gpus`), 1 for a control plane (`control_planes`), and its limits of drives. A rule about a figure leaves
            out the hosts that do not have it.
        audits: Hours within which each audit is due, and the host whose exporter has its metrics, by stack.
    """
    targets = sum(map(len, jobs.values())) + len(("prometheus", "alertmanager"))
    found = {
        topic: [
            each
            for rule in rules
            for each in (
                _of_audits(rule, audits, delays)
                if rule.get("each") == "audit"
                else _rules(rule, jobs, alerts, delays, figures, targets)
            )
        ]
        for topic, rules in topics().items()
    }
    return {topic: rules for topic, rules in found.items() if rules}


def _rules(
    rule: Rule,
    jobs: Mapping[str, Sequence[str]],
    alerts: Mapping[str, Alerts],
    delays: Mapping[str, int],
    figures: Mapping[str, Mapping[str, float]],
    targets: int,
) -> Iterator[dict[str, Any]]:
    """Yield *rule* once for each set of thresholds that hosts with its exporter have."""
    names = {*PLACEHOLDER.findall(f"{rule['expr']} {rule['summary']}")}
    groups: dict[tuple[tuple[str, str], ...], list[str]] = {}
    for host, exporters in jobs.items():
        own = figures.get(host, {})
        present = (*exporters, *(job for figure, job in JOBS_OF_FIGURES.items() if figure in own))
        if rule.get("job", next(iter(exporters), None)) in present:
            found = {**alerts[host].model_dump(include=names), **{name: own[name] for name in names & own.keys()}}
            if names <= found.keys() | {"hosts", "targets"}:
                groups.setdefault(tuple((name, _number(value)) for name, value in found.items()), []).append(host)
    for values, hosts in groups.items() if "job" in rule else [*groups.items()][:1]:
        fill = {**dict(values), "hosts": "|".join(hosts), "targets": str(targets)}
        yield _rule(rule, fill, delays)


def _of_audits(
    rule: Rule, audits: Mapping[str, tuple[int, str]], delays: Mapping[str, int]
) -> Iterator[dict[str, Any]]:
    """Yield *rule* once for each of *audits*."""
    for stack, (hours, host) in audits.items():
        yield _rule(rule, {"stack": stack, "audit_hours": str(hours), "auditor": host}, delays)


def _rule(rule: Rule, fill: Mapping[str, str], delays: Mapping[str, int]) -> dict[str, Any]:
    """Return *rule* with values in its placeholders, as Prometheus has it."""
    return {
        "alert": rule["alert"],
        "expr": _with_limit(rule, _fill(rule["expr"], fill)),
        "for": f"{delays[rule['alert']]}s" if rule["alert"] in delays else rule["for"],
        "labels": {"severity": rule["severity"]},
        "annotations": {"summary": _fill(rule["summary"], fill), "runbook": f"{RUNBOOK}#{rule['alert'].lower()}"},
    }


def _with_limit(rule: Rule, expr: str) -> str:
    """Return *expr* with a bounded number of results for each host, so that one host cannot fill Alertmanager.

    A rule with `lowest` keeps the lowest values, others the highest ones.
    """
    if "job" not in rule:
        return expr
    keep = "bottomk" if rule.get("lowest") else "topk"
    if rule["job"] == "services":  # accounts with fewer rights than root write these series
        expr = f"{keep} by (instance, server, run) ({ALERTS_OF_SERVICE}, {expr})"
    return f"{keep} by (instance) ({ALERTS_OF_HOST}, {expr})"


def _number(value: float) -> str:
    """Return a threshold as PromQL and people write it."""
    return f"{value:g}" if isinstance(value, float) else str(int(value))


def _fill(text: str, values: Mapping[str, str]) -> str:
    return PLACEHOLDER.sub(lambda found: values[found[1]], text)
