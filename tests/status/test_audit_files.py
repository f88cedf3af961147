"""Metrics of audits on their way to the monitoring host: refused, or written where its exporter reads them."""

import subprocess
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from typer.testing import CliRunner

from rackwright.cli import project, recording
from rackwright.cli.app import app
from rackwright.errors import DeclarationError, StepFailed
from rackwright.hosts.pool import Hosts
from rackwright.schema.monitoring import Monitoring
from rackwright.stack import Stack
from rackwright.status import audit_files

METRICS = """\
# TYPE rackwright_audit_exit_status gauge
rackwright_audit_exit_status{stack="rack"} 1
# TYPE rackwright_audit_finding gauge
rackwright_audit_finding{stack="rack",host="gpu-01",path="a \\"b\\" $(id) 'c'\x85",state="differs"} 1
"""


class Local:
    """Hosts whose one connection runs programs on this computer."""

    def connection(self, host: str) -> "Local":
        assert host == "service-01"
        return self

    def run(self, argv: Sequence[str], stdin: bytes = b"") -> Any:
        done = subprocess.run([*argv], input=stdin, capture_output=True)
        return SimpleNamespace(status=done.returncode, stdout=done.stdout, stderr=done.stderr.decode())


HOSTS = cast(Hosts, Local())


def stack(monitored: bool = True) -> Stack:
    receivers = {"a": {"url": {"secret": "alerts_url"}}}
    declared = {"host": "service-01", "receivers": receivers, "audits": {"rack": 26, "on-a-host": 26}}
    monitoring = Monitoring.model_validate(declared) if monitored else None
    hosts = {"service-01": SimpleNamespace(roles={"scheduled_audit": {"stacks": ["on-a-host"]}})}
    return cast(Stack, SimpleNamespace(name="rack", fleet=SimpleNamespace(monitoring=monitoring, hosts=hosts)))


def test_a_file_is_written_for_the_exporter_under_the_name_that_it_expects(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audit_files, "FOLDER", str(tmp_path / "folder"))
    (tmp_path / "folder").mkdir()
    (tmp_path / "any.prom").write_text(METRICS)

    texts = audit_files.read_all(stack(), [tmp_path / "any.prom"])
    audit_files.deliver(HOSTS, stack(), texts)

    [written] = (tmp_path / "folder").iterdir()
    assert (written.name, written.stat().st_mode & 0o777) == ("rackwright_audit_rack.prom", 0o644)
    assert written.read_text() == METRICS


def test_root_of_the_host_follows_no_link_and_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit_files, "FOLDER", str(tmp_path / "link"))
    (tmp_path / "target").mkdir()
    (tmp_path / "link").symlink_to("target")

    with pytest.raises(StepFailed, match="the file cannot be written") as error:
        audit_files.deliver(HOSTS, stack(), {"rack": METRICS})

    assert "`rackwright up rack`" in str(error.value)
    assert not [*(tmp_path / "target").iterdir()]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "line 1 is no sample of an audit"),
        ("# a comment\n", "it is about 0 stacks"),
        (METRICS + 'node_load1{stack="rack"} 1\n', "line 5 is no sample of an audit"),
        (METRICS + 'rackwright_audit_finding{stack="rack"} 1e999\n', "line 5 is no sample of an audit"),
        (METRICS.replace('"rack"', '"../rack"'), "line 2 is no sample of an audit"),
        (METRICS + 'rackwright_audit_exit_status{stack="other"} 1\n', "it is about 2 stacks"),
        (METRICS.replace('"rack"', '"other"'), "its metrics are those of stack other"),
        (METRICS.replace('"rack"', '"on-a-host"'), "role scheduled_audit of service-01 audits on-a-host"),
    ],
)
def test_metrics_that_no_alert_waits_for_are_refused(tmp_path: Path, text: str, problem: str) -> None:
    (tmp_path / "any.prom").write_text(text)

    with pytest.raises(DeclarationError) as error:
        audit_files.read_all(stack(), [tmp_path / "any.prom"])

    assert problem in str(error.value) and "any.prom" in str(error.value)


def test_all_files_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    (tmp_path / "binary").write_bytes(b"\xff")
    (tmp_path / "long").write_bytes(b"#" * (audit_files.BYTES_MAX + 1))
    names = ("binary", "long", "missing")

    with pytest.raises(DeclarationError) as error:
        audit_files.read_all(stack(), [tmp_path / name for name in names])

    assert all(f"/{name}: the file has no metrics of an audit" in str(error.value) for name in names)
    with pytest.raises(DeclarationError, match="the fleet has no monitoring"):
        audit_files.read_all(stack(monitored=False), [])


def test_the_command_delivers_and_is_an_entry_of_the_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit_files, "FOLDER", str(tmp_path))
    (tmp_path / "any.prom").write_text(METRICS)
    entries: list[tuple[object, ...]] = []
    monkeypatch.setattr(project, "stack", lambda _: stack())
    monkeypatch.setattr(project, "connect_hosts", lambda _: nullcontext(HOSTS))
    monkeypatch.setattr(recording, "record", lambda *entry, **_: nullcontext(entries.append((entry[0], entry[2]))))

    done = CliRunner().invoke(app, ["alert", "deliver", "rack", str(tmp_path / "any.prom")], catch_exceptions=False)

    assert (done.exit_code, done.output) == (0, "service-01 has the metrics of rack\n")
    assert entries == [("alert deliver", ["service-01"])]
    assert (tmp_path / "rackwright_audit_rack.prom").read_text() == METRICS
