"""The metrics of scheduled audits: what their account has written, line by line, about its own stacks."""

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from rackwright.facts import audit_metrics
from rackwright.facts.program import audit_metrics_program

GOOD = """\
# TYPE rackwright_audit_finding gauge
rackwright_audit_finding{stack="rack",host="a",resource="a/base",path="p",rule="",state="differs",severity="error"} 1
# TYPE rackwright_audit_timestamp_seconds gauge
rackwright_audit_timestamp_seconds{stack="rack"} 1796178395
"""
LINES = [line for line in GOOD.splitlines() if not line.startswith("#")]


def test_the_metrics_of_each_stack_are_passed_on(tmp_path: Path):
    (tmp_path / "rack.prom").write_text(GOOD)
    (tmp_path / "cold.prom").write_text(GOOD.replace('stack="rack"', 'stack="cold"'))
    (tmp_path / "rack.new").write_text(GOOD)
    found = audit_metrics.metrics(str(tmp_path)).splitlines()

    assert {*found} == {*LINES, *(line.replace('stack="rack"', 'stack="cold"') for line in LINES)}
    assert found == sorted(found, key=lambda line: line.partition("{")[0]), "each family in one place"


@pytest.mark.parametrize("odd", [
    'rackwright_audit_x{stack="cold"} 1', 'rackwright_audit_x{stack="rack",stack="cold"} 1', "rackwright_audit_x 1",
    'rackwright_audit_x{stack="rack"} 1e999', 'rackwright_audit_x{stack="rack",__name__="up"} 1',
    'up{stack="rack"} 1', 'rackwright_audit_x{stack="rack"} x', 'rackwright_audit_x{stack="rack" 1', "\x00",
])  # fmt: skip
def test_a_line_about_another_thing_is_left_out(odd: str, tmp_path: Path):
    (tmp_path / "rack.prom").write_text(f"{odd}\n{GOOD}")
    assert audit_metrics.metrics(str(tmp_path)).splitlines() == LINES


@pytest.mark.parametrize("make", [
    os.mkfifo, Path.mkdir, lambda path: path.symlink_to("/etc/passwd"), lambda path: path.write_bytes(b"x" * (2 << 20)),
], ids=["fifo", "directory", "link", "large"])  # fmt: skip
def test_a_file_of_another_sort_ends_no_metrics_of_others(make: Callable[[Path], object], tmp_path: Path):
    (tmp_path / "rack.prom").write_text(GOOD)
    make(tmp_path / "odd.prom")
    assert audit_metrics.metrics(str(tmp_path)).splitlines() == LINES


def test_the_program_for_hosts_runs_alone(tmp_path: Path):
    program = tmp_path / "program"
    program.write_text(audit_metrics_program().replace(audit_metrics.FOLDER, str(tmp_path)))
    (tmp_path / "rack.prom").write_text(GOOD)
    argv = ["/usr/bin/python3", "-I", "-S", str(program)]
    done = subprocess.run(argv, input=b"GET /metrics HTTP/1.0\r\n\r\n", capture_output=True, check=True)

    assert done.stdout.decode().partition("\r\n\r\n")[2].splitlines() == LINES
