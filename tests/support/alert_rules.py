"""The alert rules of a fleet of two hosts, their tests for promtool, and the same rules with one change each."""

import re
import subprocess
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from rackwright.fleet.render_alerts import PLACEHOLDER, RUNBOOK, render, topics
from rackwright.schema.alerts import Alerts
from tests.support.debian_programs import debian_program
from tests.support.sources import ROOT

FIGURE = {"gpus": 8, "control_planes": 1, "drive_media_errors": 0, "drive_pending_sectors": 0, "drive_wear_percent": 90}
AUDIT_HOURS = 26
FIGURES = {"gpu-01": FIGURE, "gpu-02": FIGURE}
EXPORTERS = (
    *("proxy", "node", "services", "health"),
    *("etcd", "load_balancer", "object_store_s3", "object_store_volume"),
)
JOBS = dict.fromkeys(("gpu-01", "gpu-02"), EXPORTERS)
CASES: Mapping[str, Mapping[str, Any]] = yaml.safe_load((ROOT / "tests/fleet/alert_cases.yaml").read_text())
EQUAL: Mapping[str, str] = yaml.safe_load((ROOT / "tests/fleet/equal_alerts.yaml").read_text())
"""Changes of rules that change no alert, each with its reason."""
SWAPPED = {">": "<", "<": ">", "==": "!=", "!=": "=="}
FACTORS = (0.9, 1.1)
"""Factors of a changed threshold."""
Rule = dict[str, Any]


def rules(**values: float) -> dict[str, Rule]:
    """Return the rules of a fleet of two hosts, by the alert; *values* are other thresholds than the defaults."""
    thresholds = Alerts.model_construct(**{**Alerts().model_dump(), **values})
    figures = {key: {name: values.get(name, value) for name, value in FIGURE.items()} for key in JOBS}
    found = render(
        JOBS,
        dict.fromkeys(JOBS, thresholds),
        {},
        figures,
        {"rack": (int(values.get("audit_hours", AUDIT_HOURS)), "gpu-01")},
    )
    return {rule["alert"]: rule for several in found.values() for rule in several}


def minutes(delay: str) -> int:
    number, unit = re.fullmatch("([0-9]+)([smh])", delay).groups()  # type: ignore[union-attr]
    return int(number) * {"s": 0, "m": 1, "h": 60}[unit] if number != "0" else 0


def checks_of(alert: str, declared: Rule) -> Iterator[dict[str, Any]]:
    """Yield promtool's tests of *alert*, whose rule is *declared*: a minute too early, in time, and never."""
    case = CASES[alert]
    fires = case["begins"] + minutes(declared["for"])
    for each in (case, *case.get("also", ())):
        annotations = {"summary": each.get("summary", case["summary"]), "runbook": f"{RUNBOOK}#{alert.lower()}"}
        labels = {"severity": declared["labels"]["severity"], **case["labels"]}
        moments = [(fires - 1, [])] if fires else []
        moments.append((fires, [{"exp_labels": labels, "exp_annotations": annotations}]))
        yield check(alert, each["firing"], moments)
    if "silent" in case:
        yield check(alert, case["silent"], [(fires, []), (fires + 5, [])])


def check(alert: str, series: Mapping[str, str], moments: list[tuple[int, list[Any]]]) -> dict[str, Any]:
    """Return a test of promtool: the alerts at each minute of *moments*."""
    return {
        "interval": "1m",
        "input_series": [{"series": name, "values": values} for name, values in series.items()],
        "alert_rule_test": [
            {"eval_time": f"{minute}m", "alertname": alert, "exp_alerts": alerts} for minute, alerts in moments
        ],
    }


def write_tests(directory: Path, rule: Rule, tests: Iterable[Mapping[str, Any]]) -> None:
    """Write *rule* and promtool's *tests* of it into the new *directory*.

    Each rule has files of its own: promtool evaluates all rules of a file at each minute of each of its tests.
    """
    directory.mkdir()
    groups = [{"name": "tests", "rules": [rule]}]
    (directory / "rules.yml").write_text(yaml.safe_dump({"groups": groups}))
    content = {"rule_files": ["rules.yml"], "evaluation_interval": "1m", "tests": [*tests]}
    (directory / "tests.yml").write_text(yaml.safe_dump(content))


def promtool(directory: Path, program: Path | None = None) -> str:
    """Return what one process of promtool prints about each `tests.yml` below *directory*, by their paths in order.

    Args:
        program: Another promtool than Debian's.
    """
    files = sorted(str(path.relative_to(directory)) for path in directory.glob("*/tests.yml"))
    argv = [str(program or debian_program("promtool", "prometheus")), "test", "rules", *files]
    done = subprocess.run(argv, cwd=directory, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    return done.stdout


def passed(printed: str) -> list[bool]:
    """Return whether the tests of each file pass, in the order of the files, from what promtool *printed*."""
    return [
        verdict == "SUCCESS"
        for verdict in re.findall(r"(?m)^(?:Unit Testing|Processing test file): .*\n +(SUCCESS|FAILED)", printed)
    ]


def changed(value: float, factor: float) -> float:
    """Return *value* x *factor*, of the same type; another number in the place of 0."""
    if value == 0:
        return int(factor > 1)
    return type(value)(value * factor) if isinstance(value, float) else round(value * factor)


def changed_rules() -> Iterator[tuple[str, str, Rule]]:
    """Yield rules with one change each: a threshold, a comparison, a number that it compares with, or the delay."""
    declared = rules()
    defaults = {**Alerts().model_dump(), **FIGURE, "audit_hours": AUDIT_HOURS}
    used = {name for several in topics().values() for rule in several for name in PLACEHOLDER.findall(rule["expr"])}
    for name, default in sorted((name, defaults[name]) for name in used & defaults.keys()):
        for factor in FACTORS:
            value = changed(default, factor)
            for alert, rule in {} if value == default else rules(**{name: value}).items():
                if rule["expr"] != declared[alert]["expr"]:
                    # the summary stays, so that the moment of the alert alone decides
                    yield alert, f"{name} is {value:g}", {**rule, "annotations": declared[alert]["annotations"]}
    for alert, rule in declared.items():
        for found in re.finditer(r" (==|!=|>|<) ", rule["expr"]):
            other = SWAPPED[found[1]]
            yield alert, f"{found[1]} at {found.start(1)} is {other}", edited(rule, found.start(1), found.end(1), other)
        for found in re.finditer(r" (?:==|!=|>|<) (-?\d+)(?![\d.])", rule["expr"]):
            if not is_declared(alert, found[0]):
                value = str(int(found[1]) + max(1, abs(int(found[1])) // 10))
                yield alert, f"{found[1]} is {value}", edited(rule, found.start(1), found.end(1), value)
        for delay in {minutes(rule["for"]) + 1, max(minutes(rule["for"]) - 1, 0)} - {minutes(rule["for"])}:
            yield alert, f"for is {delay}m", {**rule, "for": f"{delay}m"}


def is_declared(alert: str, comparison: str) -> bool:
    """Return whether a *comparison* of a rendered rule has the value of a placeholder."""
    [source] = [rule for several in topics().values() for rule in several if rule["alert"] == alert]
    return comparison not in " ".join(source["expr"].split())


def edited(rule: Rule, start: int, end: int, text: str) -> Rule:
    """Return *rule* with *text* in the place of a part of its expression."""
    return {**rule, "expr": f"{rule['expr'][:start]}{text}{rule['expr'][end:]}"}
