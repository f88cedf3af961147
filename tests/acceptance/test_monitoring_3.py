"""Line 3 of monitoring: the tests of all rules under both versions of Prometheus, changed rules, and their defaults."""

import re
from pathlib import Path

import pytest

from rackwright.core.repository import Roles
from rackwright.fleet import load_fleet
from rackwright.fleet.render_alerts import topics
from rackwright.toolchain.sources import ToolUnavailable
from tests.support.acceptance import line
from tests.support.alert_rules import EQUAL, changed_rules, checks_of, passed, promtool, rules, write_tests
from tests.support.built_server import ensure_program
from tests.support.expect import need
from tests.support.log import ROOT, Log

MODULE = ROOT / "tests/support/prometheus3"
"""Directory with the go.mod that pins the current Prometheus."""
PACKAGE = "github.com/prometheus/prometheus/cmd/promtool"
ROW = re.compile(r"\| \[(\w+)\]\(\S+\) \| (\w+) \| (\w+) \| (.*) \|")
HOSPITAL = ROOT / "stacks/hospital/hospital.yaml"


def programs(log: Log) -> dict[str, Path | None]:
    """Return promtool of each version; None is Debian's."""
    try:
        return {"Debian's": None, "Prometheus 3": ensure_program(MODULE, PACKAGE, log)}
    except ToolUnavailable as error:
        pytest.skip(f"the current promtool cannot be built here: {error}")


@line("monitoring", 3, part="rules")
def test_the_tests_of_all_rules_pass_under_both_versions(log: Log) -> str:
    """Each alert fires in its minute and not before, with its summary, and not otherwise."""
    for version, program in programs(log).items():
        directory = log.empty_directory()
        for alert, rule in rules().items():
            write_tests(directory / alert, rule, checks_of(alert, rule))
        printed = promtool(directory, program)
        need(passed(printed) == [True] * len(rules()), f"under {version}: {printed}")
    return f"{len(rules())} rules under 2 versions"


@line("monitoring", 3, part="changes")
def test_each_change_of_a_rule_makes_a_test_fail(log: Log) -> str:
    """Thresholds, comparisons, numbers and delays; changes without an effect are listed with their reasons."""
    changes, declared = [*changed_rules()], rules()
    for version, program in programs(log).items():
        directory = log.empty_directory()
        for number, (alert, _, rule) in enumerate(changes):
            write_tests(directory / f"{number:04}", rule, checks_of(alert, declared[alert]))
        verdicts = zip(changes, passed(promtool(directory, program)), strict=True)
        survivors = {f"{alert}: {change}" for (alert, change, _), good in verdicts if good}
        need(survivors == {*EQUAL}, f"under {version}, without a failing test: {survivors ^ {*EQUAL}}")
    return f"{len(changes)} changes under 2 versions, {len(EQUAL)} without an effect"


@line("monitoring", 3, part="defaults")
def test_the_rules_of_a_fleet_have_the_documented_defaults(log: Log) -> str:
    """Severity, delay and thresholds of each rule on the monitoring host of the hospital are those of the reference."""
    text = (ROOT / "docs/reference/alerts.md").read_text()
    documented = {name: (severity, delay, limits) for name, severity, delay, limits in ROW.findall(text)}
    need(documented.keys() == {rule["alert"] for several in topics().values() for rule in several}, "not all alerts")
    hosts = load_fleet(HOSPITAL, Roles(ROOT)).hosts
    rendered = hosts["service-01"].roles["prometheus"]["rules"]
    count = 0
    for rule in (rule for several in rendered.values() for rule in several):
        severity, delay, limits = documented[rule["alert"]]
        found = rule["labels"]["severity"], rule["for"]
        need(found == (severity, delay), f"{rule['alert']} has {found}, and {(severity, delay)} is documented")
        for name, value in re.findall(r"`(alerts\.\w+)` ([\d.]+)", limits):
            shown = re.findall(r"(?<![\w.])\d+(?:\.\d+)?", rule["expr"])
            need(value in shown, f"{rule['alert']}: {name} is {shown}, and {value} is documented")
        count += 1
    log(f"{count} rules of {len(documented)}")
    return f"{count} rules of the hospital have the documented defaults"
