"""Alerts and silences of a real Alertmanager, asked by the program that runs on the monitoring host."""

import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from rackwright.errors import DeclarationError, StepFailed
from rackwright.hosts.pool import Hosts
from rackwright.schema.monitoring import Monitoring
from rackwright.stack import Stack
from rackwright.status import alerts
from tests.support.monitoring import ETC, SECRETS, arguments, files, free_port, running, wait_for, write


@dataclass
class Local:
    """Hosts whose one connection runs commands on this computer, with the files of roles below *directory*."""

    directory: Path

    def connection(self, host: str) -> "Local":
        assert host == "service-01"
        return self

    def run(self, argv: Sequence[str], stdin: bytes = b"") -> Any:
        program = stdin.replace(ETC.encode(), f"{self.directory}{ETC}".encode())
        done = subprocess.run([*argv], input=program, capture_output=True)
        return SimpleNamespace(status=done.returncode, stdout=done.stdout, stderr=done.stderr.decode())


def stack(port: int) -> Stack:
    monitoring = Monitoring.model_validate(
        {"host": "service-01", "receivers": {"a": {"url": {"secret": "alerts_url"}}}}
    )
    host = SimpleNamespace(roles={"alertmanager": {"port": port}})
    fleet = SimpleNamespace(monitoring=monitoring, hosts={"service-01": host})
    unknown = lambda name: ()  # noqa: E731
    return cast(Stack, SimpleNamespace(name="rack", fleet=fleet, unknown_host_errors=unknown))


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Hosts, Stack]]:
    directory, port = tmp_path_factory.mktemp("alerts"), free_port()
    write(directory, files("prometheus"))
    receivers = [{"name": "operators", "url": {"secret": "alerts_url"}}]
    write(directory, files("alertmanager", SECRETS, port=port, receivers=receivers))
    argv = arguments(directory, "rackwright-alertmanager.service")
    with running("prometheus-alertmanager", "prometheus-alertmanager", *argv):
        wait_for(port)
        yield cast(Hosts, Local(directory)), stack(port)


def test_a_message_is_listed_and_a_silence_holds_it_back(place: tuple[Hosts, Stack]):
    hosts, rack = place
    assert (alerts.alerts(hosts, rack), alerts.silences(hosts, rack)) == ([], [])
    assert alerts.send_test(hosts, rack, "critical") == ("operators",)
    [fires] = alerts.alerts(hosts, rack)
    assert (fires.alert, fires.host, fires.severity, fires.held_back) == (
        "TestMessage",
        "service-01",
        "critical",
        False,
    )
    made = alerts.silence(hosts, rack, "TestMessage", "service-01", "a test's reason; $(x)", "olga", 3600)
    other = alerts.silence(hosts, rack, "GpuHot", "", "the room is warm", "olga", 60)

    assert [(each.alert, each.host) for each in alerts.silences(hosts, rack)] == [
        ("GpuHot", ""),
        ("TestMessage", "service-01"),
    ]
    [_, kept] = alerts.silences(hosts, rack)
    assert (kept.id, kept.reason, kept.author, kept.ends[:16]) == (made.id, made.reason, "olga", made.ends[:16])
    assert other.id != made.id
    assert [each.held_back for each in alerts.alerts(hosts, rack)] == [True]

    assert alerts.expire(hosts, rack, "TestMessage", "service-01") == [kept]
    assert [each.alert for each in alerts.silences(hosts, rack)] == ["GpuHot"]
    with pytest.raises(DeclarationError, match="no silence of TestMessage of service-01 holds"):
        alerts.expire(hosts, rack, "TestMessage", "service-01")


def test_alerts_of_one_host_hide_none_of_another(place: tuple[Hosts, Stack]):
    """Root of a host chooses the number and the labels of its series."""
    hosts, rack = place
    many = {f"x{number}": "y" * 900 for number in range(35)}
    odd = {"alertname": "UnitFailed", "severity": "warning", "instance": "odd-01", **many}
    body = [
        *({"labels": {**odd, "name": f"{number}"}} for number in range(100)),
        {"labels": {"alertname": "HostNotReached", "severity": "critical", "instance": "odd-01"}},
        {"labels": {"alertname": "DriveFailing", "severity": "critical", "instance": "service-01"}},
        {"labels": {"alertname": "AuditMissing", "severity": "warning", "stack": "rack"}},
    ]  # fmt: skip
    two = {**rack.fleet.hosts, "odd-01": SimpleNamespace(roles={})}
    fleet = SimpleNamespace(monitoring=rack.fleet.monitoring, hosts=two)
    wide = cast(Stack, SimpleNamespace(name="rack", fleet=fleet))
    for part in range(0, len(body), 3):  # one argument of a program has at most 128 KiB
        alerts._ask(hosts, wide, "POST", "/api/v2/alerts", body[part : part + 3])
    found = {(each.alert, each.host, each.severity) for each in alerts.alerts(hosts, wide)}

    assert found >= {
        ("AlertsNotListed", "odd-01", "warning"), ("HostNotReached", "odd-01", "critical"),
        ("DriveFailing", "service-01", "critical"), ("AuditMissing", "", "warning"),
    }  # fmt: skip
    [long] = [each for each in alerts.alerts(hosts, wide) if each.alert == alerts.UNLISTED]
    assert long.text == "The warning alerts of odd-01 are longer than 128 KiB, and are not listed"


def test_a_silence_that_is_made_by_more_than_names_stays(monkeypatch: pytest.MonkeyPatch):
    asked = []
    plain = {"name": "alertname", "value": "GpuHot", "isRegex": False}
    pattern, not_equal = plain | {"isRegex": True}, plain | {"isEqual": False}
    by_profile = {"name": "profile", "value": "p", "isRegex": False}
    matchers = [[plain], [pattern], [plain, by_profile], [not_equal], ["x"], [plain, "x"], [plain, plain], [plain, {}]]
    rows = [
        {"id": f"{number:08}", "status": {"state": "active"}, "matchers": each}
        for number, each in enumerate([*matchers, None, {}])
    ]
    rows.append({**rows[0], "id": "00000010", "status": {"state": "pending"}, "startsAt": "2027", "endsAt": "2028"})
    rows.append({**rows[0], "id": "00000011", "status": {"state": "expired"}})

    def ask(_hosts: Any, _stack: Any, method: str, path: str, _body: Any = None) -> Any:
        asked.append((method, path))
        return rows if method == "GET" else {}

    monkeypatch.setattr(alerts, "_ask", ask)
    ended = alerts.expire(cast(Hosts, None), stack(1), "GpuHot", "")
    assert [(each.id, each.begins) for each in ended] == [("00000000", ""), ("00000010", "2027")]
    assert asked[1:] == [("DELETE", "/api/v2/silence/00000000"), ("DELETE", "/api/v2/silence/00000010")]


@pytest.mark.parametrize("identity", ["..", "", ".", "a/../b?", "x?y#z", "é" * 36, 5, None, "a" * 65])
def test_a_silence_with_an_odd_identity_is_refused(monkeypatch: pytest.MonkeyPatch, identity: Any):
    """The identity becomes a part of the path of a request that deletes."""
    asked = []
    plain = {"name": "alertname", "value": "GpuHot", "isRegex": False}

    def ask(_hosts: Any, _stack: Any, method: str, path: str, _body: Any = None) -> Any:
        asked.append(method)
        return [{"id": identity, "status": {"state": "active"}, "matchers": [plain]}]

    monkeypatch.setattr(alerts, "_ask", ask)
    with pytest.raises(StepFailed, match="the identity of a silence"):
        alerts.expire(cast(Hosts, None), stack(1), "GpuHot", "")
    assert asked == ["GET"]


def test_a_server_that_does_not_answer_is_one_plain_error(place: tuple[Hosts, Stack]):
    hosts, _ = place
    with pytest.raises(StepFailed) as caught:
        alerts.alerts(hosts, stack(free_port()))

    [error] = caught.value.diagnostics
    assert error.where == "service-01: Alertmanager"
    assert error.problem.startswith("no answer: ") and "refused" in error.problem
    assert error.help == "Run `rackwright audit rack`, which names the part that does not run"


def test_a_silence_names_an_alert_and_a_reason(place: tuple[Hosts, Stack]):
    _, rack = place
    alerts.check_silence(rack, "HostNotReached", "", "its power supply is replaced")
    with pytest.raises(DeclarationError) as caught:
        alerts.check_silence(rack, "HostNotReachd", "", " ")

    assert [(each.where, each.problem) for each in caught.value.diagnostics] == [
        ("ALERT", "there is no alert HostNotReachd"), ("--reason", "got no reason"),
    ]  # fmt: skip
    without = cast(Stack, SimpleNamespace(name="rack", fleet=SimpleNamespace(monitoring=None)))
    with pytest.raises(DeclarationError, match="the fleet has no monitoring"):
        alerts.alerts(cast(Hosts, None), without)


def test_texts_of_others_have_no_signs_for_the_terminal():
    raw = {"labels": {"alertname": "A\x1b[2J", "instance": ["x"]}, "annotations": {"summary": "é" * 900}}
    found = alerts._alert(raw)
    assert (found.alert, found.host, len(found.summary)) == ("A?[2J", "", 500)
