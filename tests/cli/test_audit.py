"""The options of `rackwright audit`, with snapshots of the example rack in the place of its hosts."""

import json
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from xml.etree import ElementTree

import pytest
from typer.testing import CliRunner, Result

from rackwright.cli import audit as audit_command
from rackwright.cli import project, recording, state
from rackwright.cli.app import app
from rackwright.errors import ChangeRefused, DeclarationError, SetupError
from rackwright.facts import snapshot
from rackwright.facts.facts import Facts
from rackwright.log import host_heads
from rackwright.provider import state_format
from rackwright.stack import declare
from rackwright.status import audit_files
from tests.support.audit_document import HOSTS
from tests.support.inventory import OTHERS, with_nothing_more
from tests.support.operations_log import new_key
from tests.support.recorded_hosts import STACK, recorded

Audit = Callable[..., Result]


@pytest.fixture
def audit(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Audit:
    """Return a function that runs `rackwright audit` on the snapshots in a directory."""
    monkeypatch.setattr(project, "stack", lambda name: STACK)
    monkeypatch.setattr(recording, "note", lambda *_: None)  # the project of these stacks is this repository

    def run(*arguments: str, facts: str = "facts") -> Result:
        argv = ["audit", "lab", "--snapshot", str(tmp_path / facts), *arguments]
        return CliRunner().invoke(app, argv, catch_exceptions=False)

    return run


def save(directory: Path, bitmap: object = "internal", hosts: tuple[str, ...] = HOSTS) -> Path:
    """Save snapshots of *hosts*, with *bitmap* at an array of the first one."""
    for host in hosts:
        raw = with_nothing_more(recorded(host), OTHERS)
        if host == HOSTS[0]:
            next(array for array in raw["arrays"] if array["bitmap"] == "internal")["bitmap"] = bitmap
        snapshot.save(directory, host, Facts(raw))
    return directory


def test_each_format_is_printed_and_written(audit, tmp_path):
    save(tmp_path / "facts", "none")
    for format in ("terminal", "json", "junit", "sarif", "markdown", "html", "csv"):
        printed, file = audit("--format", format), tmp_path / f"report.{format}"
        written = audit("--format", format, "--output", str(file))

        assert (printed.exit_code, written.exit_code) == (1, 1), printed.output
        assert "bitmap" in printed.stdout
        assert not written.stdout
        assert "bitmap" in file.read_text()
    assert json.loads((tmp_path / "report.json").read_text()) == json.loads(audit("--json").stdout)
    assert audit("--json", "--format", "csv").exit_code == 2


@pytest.mark.parametrize("option", ["--output", "--metrics"])
def test_a_report_that_cannot_be_written_is_an_error(audit, tmp_path, option):
    save(tmp_path / "facts")
    (tmp_path / "file").write_text("")

    with pytest.raises(DeclarationError.__base__, match="cannot be written"):
        audit(option, str(tmp_path / "file" / "report"))


def test_one_audit_makes_a_report_and_metrics_that_the_monitoring_takes(audit, tmp_path):
    save(tmp_path / "facts", "none")
    printed = audit("--metrics", str(tmp_path / "lab.prom"))

    assert printed.exit_code == 1 and "bitmap" in printed.stdout
    audits = SimpleNamespace(host=HOSTS[0], audits={STACK.name: 26})
    monitored = SimpleNamespace(name="x", fleet=SimpleNamespace(monitoring=audits, hosts={}))
    [(name, text)] = audit_files.read_all(monitored, [tmp_path / "lab.prom"]).items()
    assert name == STACK.name
    assert 'rackwright_audit_exit_status{stack="lab"} 1\n' in text and "bitmap" in text


def test_an_audit_is_noted_in_the_operations_log_with_its_status(audit, tmp_path, monkeypatch):
    save(tmp_path / "facts", "none")
    notes: list[object] = []
    monkeypatch.setattr(recording, "note", lambda command, stack, hosts, *rest: notes.append((command, hosts, *rest)))

    audit("--host", HOSTS[0])

    assert notes == [("audit", [HOSTS[0]], 1, {})]


def test_root_of_a_host_cannot_change_what_an_audit_has_seen(monkeypatch, tmp_path):
    """
    An audit notes the heads of the hosts' audit logs, and the next ones find a chain that was written again.
    """
    monkeypatch.setattr(project, "stack", lambda name: STACK)
    monkeypatch.setenv("RACKWRIGHT_LOG", str(tmp_path / "log"))
    monkeypatch.setenv("RACKWRIGHT_LOG_KEY", str(new_key(tmp_path / "key")))
    monkeypatch.delenv("RACKWRIGHT_LOG_HEADS", raising=False)
    monkeypatch.setattr(host_heads, "AUDITS", 2)
    chain = {"id": "c0", "number": 0, "time": "2026-11-29T08:00:00Z", "hashes": "a" * 32, "breaks": []}

    def found(**changes: object) -> list[str]:
        raw = {**with_nothing_more(recorded(HOSTS[0]), OTHERS), "log_chain": {**chain, **changes}}
        facts = Facts({**raw, "finished_at": time.time(), "clock_offset_seconds": 0.0})
        monkeypatch.setattr(audit_command, "_evidence", lambda *_: iter([(HOSTS[0], facts)]))
        argv = ["audit", STACK.name, "--host", HOSTS[0], "--json"]
        report = json.loads(CliRunner().invoke(app, argv, catch_exceptions=False).stdout)
        return [f"{item['rule']} {item['found']}" for item in report["undeclared"] if item["rule"] == "RW-141"]

    assert found() == []
    assert found(number=1, hashes="a" * 32 + "b" * 32) == []
    again = "entry 1 has another hash than an earlier audit saw: the chain was written again"
    for _ in range(4):  # each audit notes the head that was seen again, not that of the other chain
        assert found(number=2, hashes="a" * 32 + "c" * 64) == [f"RW-141 {again}"]
    assert CliRunner().invoke(app, ["log", "accept", STACK.name, HOSTS[0], "--reason", "x"]).exit_code == 0
    assert found(number=2, hashes="a" * 32 + "c" * 64) == []
    assert found(number=1, hashes="a" * 32 + "b" * 32) == [
        "RW-141 the newest entry is 1, and an earlier audit saw entry 2"
    ]
    with pytest.raises(DeclarationError, match="no audit has noted its audit log"):
        CliRunner().invoke(app, ["log", "accept", STACK.name, "other", "--reason", "x"], catch_exceptions=False)
    log = recording.current_log().path
    log.write_bytes(log.read_bytes().replace(b'"number":2', b'"number":0'))
    assert found() == ["RW-141 what earlier audits saw: the operations log cannot be read"]


def test_strict_counts_unknown_like_different(audit, tmp_path):
    save(tmp_path / "facts", {"unknown": "permission denied"})

    assert audit().exit_code == 3
    assert audit("--strict").exit_code == 1
    save(tmp_path / "sound")
    assert audit("--strict", facts="sound").exit_code == 0


def test_a_selection_decides_what_is_shown_and_what_counts(audit, tmp_path):
    save(tmp_path / "facts", "none")

    assert audit("--only", "tier").exit_code == 1
    assert audit("--only", "host").exit_code == 0
    assert "bitmap" not in audit("--only", "host").stdout
    assert audit("--only", "*.bitmap").exit_code == 1
    assert audit("--severity", "error").exit_code == 1


def test_one_host_is_audited_without_facts_of_the_others(audit, tmp_path):
    save(tmp_path / "facts", "none", HOSTS[1:])

    assert audit("--host", HOSTS[1]).exit_code == 0
    assert audit().exit_code == 3
    with pytest.raises(DeclarationError, match="no host gpu-99"):
        audit("--host", "gpu-99")


def test_a_baseline_lets_only_new_findings_count(audit, tmp_path):
    save(tmp_path / "facts", "none")
    baseline = tmp_path / "baseline.json"
    audit("--json", "--output", str(baseline))

    assert audit("--baseline", str(baseline)).exit_code == 0
    assert "1 known from the baseline" in audit("--baseline", str(baseline)).stdout
    save(tmp_path / "worse", "/bitmap")
    assert audit("--baseline", str(baseline), facts="worse").exit_code == 1
    [known] = [
        case
        for case in ElementTree.fromstring(  # noqa: S314 -- our own text
            audit("--baseline", str(baseline), "--format", "junit").stdout
        ).iter("testcase")
        if case.find("system-out") is not None
    ]
    assert "does not count: " in "".join(known.itertext())


@pytest.mark.parametrize(
    "text", ["", "{}", "[1]", '{"stack": "lab", "findings": [{}]}', '{"stack": "x", "findings": []}']
)
def test_a_file_that_is_no_baseline_is_refused(audit, tmp_path, text):
    save(tmp_path / "facts")
    (tmp_path / "baseline.json").write_text(text)

    with pytest.raises(DeclarationError):
        audit("--baseline", str(tmp_path / "baseline.json"))


def test_only_changes_since_a_snapshot_count(audit, tmp_path):
    save(tmp_path / "facts", "none")
    before = str(save(tmp_path / "before"))

    assert audit("--changed-since", str(tmp_path / "facts")).exit_code == 0
    assert audit("--changed-since", before).exit_code == 1


def test_the_state_in_the_place_of_the_fleet_has_its_own_resources(audit, tmp_path, monkeypatch):
    save(tmp_path / "facts", "none")
    tier = next(each for each in declare(STACK) if each.name == f"{HOSTS[0]}/hot")
    inputs = {**tier.inputs, "name": "own", state_format.PROPERTY: state_format.STATE_FORMAT}
    resource = {"urn": f"urn:pulumi:lab::x::{tier.token}::{HOSTS[0]}/own", "custom": True, "type": tier.token}

    def export(inputs: object) -> None:
        text = json.dumps({"deployment": {"resources": [{**resource, "inputs": inputs}]}})
        monkeypatch.setattr(state, "pulumi", lambda *_: text)

    export(inputs)
    report = json.loads(audit("--state", "--json").stdout)
    assert [each["name"] for each in report["resources"]] == [f"{HOSTS[0]}/own"]
    assert {each["path"].partition(":")[2].partition(".")[0] for each in report["findings"]} >= {f"{HOSTS[0]}:own"}
    export({**inputs, "host": "gpu-99"})
    with pytest.raises(DeclarationError, match="no host gpu-99"):
        audit("--state")
    export({**inputs, "members": 1})
    with pytest.raises(SetupError, match="cannot read its inputs"):
        audit("--state")
    export({**inputs, state_format.PROPERTY: 99})
    with pytest.raises(ChangeRefused, match="format 99"):
        audit("--state")
