"""The alert rules of a fleet, as promtool judges them: each fires when it should, and not otherwise."""

import json
import re
from collections.abc import Mapping
from pathlib import Path

import pytest

from rackwright.fleet.render_alerts import (
    ALERTS_OF_HOST,
    ALERTS_OF_SERVICE,
    RUNBOOK,
    alert_names,
    render,
    topics,
)
from rackwright.schema.alerts import Alerts
from tests.support.alert_rules import (
    CASES,
    EQUAL,
    FIGURES,
    JOBS,
    changed_rules,
    checks_of,
    minutes,
    passed,
    promtool,
    rules,
    write_tests,
)
from tests.support.sources import ROOT

WITHOUT_HOST = ("TargetsMissing", "Heartbeat", "AuditDiffers", "AuditUnknown", "AuditMissing")


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


def test_a_changed_rule_fails_its_test(tmp_path: Path) -> None:
    changes, declared = [*changed_rules()], rules()
    for number, (alert, _, rule) in enumerate(changes):
        write_tests(tmp_path / f"{number:04}", rule, checks_of(alert, declared[alert]))
    printed = promtool(tmp_path)

    verdicts = zip(changes, passed(printed), strict=True)
    assert {f"{alert}: {change}" for (alert, change, _), good in verdicts if good} == {*EQUAL}, printed


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
        JOBS, {"gpu-01": Alerts(), "gpu-02": Alerts(io_latency_milliseconds=50)}, {"IoLatencyHigh": 7}, {}, {}
    )
    latency = {rule["expr"]: rule for rule in found["drives"] if rule["alert"] == "IoLatencyHigh"}

    assert [(re.findall('instance=~"(.*?)"', expr), expr.rpartition(" ")[2].rstrip(")")) for expr in latency] == [
        (["gpu-01"], "500"), (["gpu-02"], "50"),
    ]  # fmt: skip
    assert {rule["for"] for rule in latency.values()} == {"7s"}
    assert len([rule for rule in found["targets"] if rule["alert"] == "HostNotReached"]) == 1


def test_a_rule_about_an_exporter_that_no_host_has_is_left_out() -> None:
    found = render({"gpu-01": ("proxy",)}, {"gpu-01": Alerts()}, {}, {}, {})
    assert found.keys() == {"targets"}


def test_a_limit_that_a_host_does_not_have_is_no_rule_about_it() -> None:
    """`health: {wear_percent: any}` of one host leaves the other in the rule."""
    figures = {**FIGURES, "gpu-01": {"drive_media_errors": 0}}
    found = render(JOBS, dict.fromkeys(JOBS, Alerts()), {}, figures, {})
    worn = [rule["expr"] for rule in found["drives"] if rule["alert"] == "DriveWorn"]

    assert [re.findall('instance=~"(.*?)"', expr) for expr in worn] == [["gpu-02"]]


def test_hosts_with_other_numbers_of_gpus_have_a_rule_of_their_own() -> None:
    figures = {"gpu-01": {"gpus": 8}, "gpu-02": {"gpus": 4}}
    found = render(JOBS, dict.fromkeys(JOBS, Alerts()), {}, figures, {})
    lost = [rule["expr"] for rule in found["gpus"] if rule["alert"] == "GpuLost"]

    assert [expr.rpartition(" ")[2].rstrip(")") for expr in lost] == ["8", "4"]


def test_no_label_of_a_host_widens_a_rule() -> None:
    """Hosts choose device names and mount points; the instance comes from the target."""
    for rule in rules().values():
        assert "$labels.instance" in rule["annotations"]["summary"] or rule["alert"] in WITHOUT_HOST
