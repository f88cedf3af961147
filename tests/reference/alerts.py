"""The page of the alerts of monitoring."""

from collections.abc import Iterator

from rackwright.fleet.render_alerts import PLACEHOLDER, Rule, topics
from rackwright.schema.alerts import Alerts
from tests.reference.markdown import page, table

INTRODUCTION = """\
All alerts of [monitoring](../guides/monitor.md), with their thresholds and the time that a condition lasts before its
alert fires. `alerts` of a fleet, group or host changes a threshold, `health` of a host the limits of its drives, and
`delays` of `monitoring` a time. [Alerts of monitoring](../runbooks/monitoring.md) has the steps for each."""
OTHERS = {
    "audit_hours": "the hours in `audits`",
    "gpus": "the GPUs in the profile of the host",
    "targets": "the targets of the fleet",
    **{f"drive_{name}": f"`health.{name}`" for name in ("media_errors", "pending_sectors", "wear_percent")},
}
"""Thresholds that are no keys of `alerts`."""
NAMES = ("hosts", "stack", "auditor")
"""Placeholders that are no thresholds."""


def render() -> str:
    """Return docs/reference/alerts.md."""
    parts = [
        f"## {topic.capitalize()}\n\n{table(('alert', 'severity', 'time', 'thresholds'), map(_row, rules))}"
        for topic, rules in topics().items()
    ]
    return page("Alerts", "rackwright/fleet/alert_rules", INTRODUCTION, *parts)


def thresholds(rule: Rule) -> Iterator[tuple[str, str]]:
    """Yield the name and the default of each threshold of *rule*."""
    defaults = Alerts()
    for name in dict.fromkeys(PLACEHOLDER.findall(rule["expr"])):
        if name in Alerts.model_fields:
            yield f"`alerts.{name}`", f"{getattr(defaults, name):g}"
        elif name not in NAMES:
            yield OTHERS[name], ""


def _row(rule: Rule) -> tuple[str, ...]:
    described = ", ".join(" ".join(filter(None, each)) for each in thresholds(rule))
    name = rule["alert"]
    return f"[{name}](../runbooks/monitoring.md#{name.lower()})", rule["severity"], rule["for"], described
