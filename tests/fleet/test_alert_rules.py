"""The alert rules of a fleet, as promtool judges them: each fires when it should, and not otherwise."""

import json
import re
import subprocess
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from rackwright.fleet.render_alerts import (
    ALERTS_OF_HOST,
    ALERTS_OF_SERVICE,
    RUNBOOK,
    alert_names,
    render,
    topics,
)
from rackwright.schema.alerts import Alerts
from tests.support.debian_programs import debian_program
from tests.support.sources import ROOT

FIGURE = {"gpus": 8, "drive_media_errors": 0, "drive_pending_sectors": 0, "drive_wear_percent": 90}
FIGURES = {"gpu-01": FIGURE, "gpu-02": FIGURE}
EXPORTERS = (
    *("proxy", "node", "services", "health"),
    *("etcd", "load_balancer", "object_store_s3", "object_store_volume"),
)
JOBS = dict.fromkeys(("gpu-01", "gpu-02"), EXPORTERS)
CASES: Mapping[str, Mapping[str, Any]] = yaml.safe_load(Path(__file__).with_name("alert_cases.yaml").read_text())
WITHOUT_HOST = ("TargetsMissing", "Heartbeat", "AuditDiffers", "AuditUnknown", "AuditMissing")
FACTORS = (0.9, 1.1)
"""Factors of a changed threshold."""
Rule = dict[str, Any]


def rules(thresholds: Alerts | None = None) -> dict[str, Rule]:
    """Return the rules of a fleet of two hosts, by the alert."""
    found = render(JOBS, dict.fromkeys(JOBS, thresholds or Alerts()), {}, FIGURES, {"rack": 26}, "gpu-01")
    return {rule["alert"]: rule for several in found.values() for rule in several}


def minutes(delay: str) -> int:
    number, unit = re.fullmatch("([0-9]+)([smh])", delay).groups()  # type: ignore[union-attr]
    return int(number) * {"s": 0, "m": 1, "h": 60}[unit] if number != "0" else 0


def checks_of(alert: str, declared: Rule) -> Iterator[dict[str, Any]]:
    """Yield promtool's tests of *alert*, whose rule is *declared*: a minute too early, in time, and never."""
    case = CASES[alert]
    fires = case["begins"] + minutes(declared["for"])
    annotations = {"summary": case["summary"], "runbook": f"{RUNBOOK}#{alert.lower()}"}
    expected = {"exp_labels": {"severity": declared["labels"]["severity"], **case["labels"]}}
    moments = [(fires - 1, [])] if fires else []
    for sort, at in (("firing", [*moments, (fires, [{**expected, "exp_annotations": annotations}])]),
                     ("silent", [(fires, []), (fires + 5, [])])):  # fmt: skip
        if sort in case:
            yield {
                "interval": "1m",
                "input_series": [{"series": name, "values": values} for name, values in case[sort].items()],
                "alert_rule_test": [
                    {"eval_time": f"{minute}m", "alertname": alert, "exp_alerts": alerts} for minute, alerts in at
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


def promtool(directory: Path) -> str:
    """Return what one process of promtool prints about each `tests.yml` below *directory*, by their paths in order."""
    files = sorted(str(path.relative_to(directory)) for path in directory.glob("*/tests.yml"))
    argv = [str(debian_program("promtool", "prometheus")), "test", "rules", *files]
    done = subprocess.run(argv, cwd=directory, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    return done.stdout


def passed(printed: str) -> list[bool]:
    """Return whether the tests of each file pass, in the order of the files, from what promtool *printed*."""
    return [verdict == "SUCCESS" for verdict in re.findall(r"(?m)^Unit Testing: .*\n +(SUCCESS|FAILED)", printed)]


def test_each_alert_has_a_case_and_a_section_of_its_runbook() -> None:
    assert {*CASES} == {*alert_names()} == {*rules()}
    assert len(alert_names()) == len({*alert_names()})
    sections = re.findall(r"(?m)^## (\w+)$", (ROOT / RUNBOOK).read_text())
    assert sections == [*alert_names()], "in the order of the rules"


def test_each_alert_fires_in_time_with_its_summary_and_not_otherwise(tmp_path: Path) -> None:
    declared = rules()
    for alert, rule in declared.items():
        write_tests(tmp_path / alert, rule, checks_of(alert, rule))
    printed = promtool(tmp_path)
    assert passed(printed) == [True] * len(declared), printed


def changed(value: float, factor: float) -> float:
    """Return *value* x *factor*, of the same type."""
    return type(value)(value * factor) if isinstance(value, float) else round(value * factor)


def changed_rules() -> Iterator[tuple[str, str, Rule]]:
    """Yield rules with one change each: a threshold, the last comparison, or the delay."""
    declared = rules()
    defaults = Alerts().model_dump()
    used = {
        name for several in topics().values() for rule in several for name in re.findall(r"@\{(\w+)\}", rule["expr"])
    }
    for name in sorted(used & defaults.keys()):
        for factor in FACTORS:
            other = rules(Alerts.model_construct(**{**defaults, name: changed(defaults[name], factor)}))
            for alert, rule in other.items():
                if rule["expr"] != declared[alert]["expr"]:
                    # the summary stays, so that the moment of the alert alone decides
                    yield alert, f"{name} x {factor}", {**rule, "annotations": declared[alert]["annotations"]}
    swapped = {">": "<", "<": ">", "==": "!=", "!=": "=="}
    for alert, rule in declared.items():
        if comparisons := [*re.finditer(r" (==|!=|>|<) ", rule["expr"])]:
            last = comparisons[-1]
            expr = f"{rule['expr'][: last.start(1)]}{swapped[last[1]]}{rule['expr'][last.end(1) :]}"
            yield alert, f"{last[1]} is {swapped[last[1]]}", {**rule, "expr": expr}
        for delay in {minutes(rule["for"]) + 1, max(minutes(rule["for"]) - 1, 0)} - {minutes(rule["for"])}:
            yield alert, f"for {delay}m", {**rule, "for": f"{delay}m"}


def test_a_changed_rule_fails_its_test(tmp_path: Path) -> None:
    changes, declared = [*changed_rules()], rules()
    for number, (alert, _, rule) in enumerate(changes):
        write_tests(tmp_path / f"{number:04}", rule, checks_of(alert, declared[alert]))
    printed = promtool(tmp_path)

    verdicts = zip(changes, passed(printed), strict=True)
    assert not [f"{alert} with {change}" for (alert, change, _), good in verdicts if good], printed


HOSTILE = ("", 'x="1"', 'x="2"', 'state="odd"', 'state="other"', 'device="", x="3"')
"""Labels that a host adds to copies of series: no label that it chooses is `severity`, which the server drops."""


def with_copies(series: Mapping[str, str], host: str) -> dict[str, str]:
    """Return *series* and copies of *host* with other labels and values, as its root can write them."""
    found = dict(series)
    for name in series:
        metric, _, labels = name.rstrip("}").partition("{")
        own = [each for each in re.findall(r'\w+="[^"]*"', labels) if not each.startswith("instance=")]
        if metric not in OF_SERVER:
            for more in HOSTILE:
                kept = [each for each in own if each.partition("=")[0] not in more]
                labels_of_copy = [f'instance="{host}"', *kept, *([more] if more else [])]
                found[f"{metric}{{{','.join(labels_of_copy)}}}"] = "1 0 9 -1e300 NaN 1e300x1600"
    return found


OF_SERVER = (
    *("up", "ALERTS", "prometheus_rule_evaluation_failures_total", "alertmanager_notifications_failed_total"),
    *("prometheus_rule_group_iterations_missed_total", "prometheus_tsdb_compactions_failed_total"),
)
"""Series about the servers and targets themselves, which the server takes from no host."""


@pytest.mark.parametrize("host", ["gpu-02", "hostile-01"])
def test_no_series_of_one_host_silences_an_alert_of_another(host: str, tmp_path: Path) -> None:
    declared = rules()
    for alert, rule in declared.items():
        case = CASES[alert]
        labels = {"alertname": alert, "alertstate": "firing", **case["labels"]}
        selected = ",".join(f"{name}={promql_text(value)}" for name, value in labels.items())
        test = {
            "interval": "1m",
            "input_series": [
                {"series": name, "values": values} for name, values in with_copies(case["firing"], host).items()
            ],
            "promql_expr_test": [{
                "expr": f"max(ALERTS{{{selected}}})",
                "eval_time": f"{case['begins'] + minutes(rule['for'])}m",
                "exp_samples": [{"labels": "{}", "value": 1}],
            }],
        }  # fmt: skip
        write_tests(tmp_path / alert, rule, [test])
    printed = promtool(tmp_path)
    assert passed(printed) == [True] * len(declared), printed


def test_the_series_of_one_host_make_a_bounded_number_of_alerts(tmp_path: Path) -> None:
    """Root of a host may send 50,000 series, and an account that writes metrics of a server 4,000."""
    bounds = {
        rule["alert"]: ALERTS_OF_SERVICE if rule["job"] == "services" else ALERTS_OF_HOST
        for several in topics().values() for rule in several if "job" in rule
    }  # fmt: skip
    for alert, bound in bounds.items():
        case, rule = CASES[alert], rules()[alert]
        series = {
            f'{name[:-1]},x="{number}"}}': values for name, values in case["firing"].items() for number in range(60)
        }
        test = {
            "interval": "1m",
            "input_series": [{"series": name, "values": values} for name, values in series.items()],
            "promql_expr_test": [{
                "expr": f"count(ALERTS{{alertname={promql_text(alert)}}}) <= bool {bound}",
                "eval_time": f"{case['begins'] + minutes(rule['for'])}m",
                "exp_samples": [{"labels": "{}", "value": 1}],
            }],
        }  # fmt: skip
        write_tests(tmp_path / alert, rule, [test])
    printed = promtool(tmp_path)
    assert passed(printed) == [True] * len(bounds), printed


def test_of_many_certificates_those_that_end_first_are_alerts(tmp_path: Path) -> None:
    [name] = CASES["CertificateEnds"]["firing"]
    series = {name.replace("/a/", f"/{number:02}/"): f"{number * 3600}x20" for number in range(60)}
    test = {
        "interval": "1m",
        "input_series": [{"series": each, "values": values} for each, values in series.items()],
        "promql_expr_test": [{
            "expr": 'count(ALERTS{file=~"/etc/0[0-7]/tls.crt"}) - count(ALERTS)',
            "eval_time": "1m",
            "exp_samples": [{"labels": "{}", "value": 0}],
        }],
    }  # fmt: skip
    write_tests(tmp_path / "one", rules()["CertificateEnds"], [test])
    printed = promtool(tmp_path)
    assert passed(printed) == [True], printed


def promql_text(value: object) -> str:
    """Return *value* as a text of PromQL."""
    return json.dumps(str(value))


def test_hosts_with_other_thresholds_have_a_rule_of_their_own() -> None:
    found = render(
        JOBS, {"gpu-01": Alerts(), "gpu-02": Alerts(io_latency_milliseconds=50)}, {"IoLatencyHigh": 7}, {}, {}, "gpu-01"
    )
    latency = {rule["expr"]: rule for rule in found["drives"] if rule["alert"] == "IoLatencyHigh"}

    assert [(re.findall('instance=~"(.*?)"', expr), expr.rpartition(" ")[2].rstrip(")")) for expr in latency] == [
        (["gpu-01"], "500"), (["gpu-02"], "50"),
    ]  # fmt: skip
    assert {rule["for"] for rule in latency.values()} == {"7s"}
    assert len([rule for rule in found["targets"] if rule["alert"] == "HostNotReached"]) == 1


def test_a_rule_about_an_exporter_that_no_host_has_is_left_out() -> None:
    found = render({"gpu-01": ("proxy",)}, {"gpu-01": Alerts()}, {}, {}, {}, "gpu-01")
    assert found.keys() == {"targets"}


def test_a_limit_that_a_host_does_not_have_is_no_rule_about_it() -> None:
    """`health: {wear_percent: any}` of one host leaves the other in the rule."""
    figures = {**FIGURES, "gpu-01": {"drive_media_errors": 0}}
    found = render(JOBS, dict.fromkeys(JOBS, Alerts()), {}, figures, {}, "gpu-01")
    worn = [rule["expr"] for rule in found["drives"] if rule["alert"] == "DriveWorn"]

    assert [re.findall('instance=~"(.*?)"', expr) for expr in worn] == [["gpu-02"]]


def test_hosts_with_other_numbers_of_gpus_have_a_rule_of_their_own() -> None:
    figures = {"gpu-01": {"gpus": 8}, "gpu-02": {"gpus": 4}}
    found = render(JOBS, dict.fromkeys(JOBS, Alerts()), {}, figures, {}, "gpu-01")
    lost = [rule["expr"] for rule in found["gpus"] if rule["alert"] == "GpuLost"]

    assert [expr.rpartition(" ")[2].rstrip(")") for expr in lost] == ["8", "4"]


def test_no_label_of_a_host_widens_a_rule() -> None:
    """Hosts choose device names and mount points; the instance comes from the target."""
    for rule in rules().values():
        assert "$labels.instance" in rule["annotations"]["summary"] or rule["alert"] in WITHOUT_HOST
