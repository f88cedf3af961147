"""The metrics of drives: what the probe's own readers report, and never a value that could not be read."""

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from rackwright.facts import drive_metrics
from rackwright.facts.probe import health
from rackwright.facts.program import drive_metrics_program
from tests.support.fabricated_machine import MIB, FabricatedMachine

SAS = "pci0000:00/0000:00:05.0/host0/port-0:0/end_device-0:0/target0:0:0/0:0:0:0"
UNKNOWN = {"unknown": "no answer"}
GOOD = {"passed": True, "pending_sectors": None, "media_errors": 2, "wear_percent": 7}
ARRAY = {
    "name": "md0",
    "md_name": "alpha:warm",
    "degraded": 1,
    "mismatch_count": 128,
    "array_state": "clean",
    "sync_action": "recover",
    "sync_completed": "250 / 1000",
    "sync_min": 0,
}


def found(facts: dict[str, Any]) -> dict[str, float]:
    """Return the values by name and the first label."""
    return {
        f"{name.removeprefix('rackwright_')} {next(iter(labels.values()), '')}".strip(): value
        for name, labels, value in drive_metrics.samples(facts, 1000.5)
    }


def test_each_value_of_a_drive_is_a_metric_and_an_unknown_one_is_none():
    drives = [
        {"name": "sda", "serial": "S1", "health": GOOD, "temperature_celsius": 31},
        {"name": "sdb", "serial": UNKNOWN, "health": UNKNOWN, "temperature_celsius": UNKNOWN},
        {"name": "sdc", "serial": "S3", "health": {**GOOD, "passed": False}, "temperature_celsius": None},
    ]
    values = found({"drives": drives, "arrays": UNKNOWN, "mappings": UNKNOWN, "scrubs": UNKNOWN})

    assert {name: value for name, value in values.items() if name.endswith("sda")} == {
        "drive_health_unknown sda": 0, "drive_failing sda": 0, "drive_media_errors sda": 2, "drive_wear_percent sda": 7,
        "drive_temperature_celsius sda": 31,
    }  # fmt: skip
    assert {name for name in values if name.endswith("sdb")} == {"drive_health_unknown sdb"}
    assert (values["drive_failing sdc"], values["drives_read"]) == (1, 1)
    assert found({}) == {"drives_read": 0, "drives_timestamp_seconds": 1000.5}


@pytest.mark.parametrize("odd", [UNKNOWN, None, "x", {"name": "sdz"}, {"name": "sdz", "serial": "S", "health": "x"}])
def test_a_drive_that_is_not_understood_ends_no_metrics_of_others(odd: Any):
    good = {"name": "sda", "serial": "S1", "health": GOOD, "temperature_celsius": 31}
    values = found(
        {"drives": [odd, good], "arrays": [odd, ARRAY], "mappings": [odd], "scrubs": {"hot": odd, "warm": 5}}
    )

    assert (values["drive_temperature_celsius sda"], values["array_unwritable md0"]) == (31, 0)
    assert values["scrub_timestamp_seconds warm"] == 5


@pytest.mark.parametrize(
    ("change", "wanted"),
    [
        ({}, {"members_missing": 1, "mismatches": 128, "unwritable": 0, "rebuild_percent": 25, "scrub_incomplete": 0}),
        ({"array_state": "broken"}, {"unwritable": 1}),
        ({"array_state": "read-auto"}, {"unwritable": 0}),
        ({"sync_action": "idle", "sync_completed": "none", "sync_min": 64}, {"scrub_incomplete": 1}),
        ({"sync_action": "check", "sync_completed": "5 / 10"}, {"scrub_incomplete": 0}),
        ({"degraded": UNKNOWN, "sync_completed": UNKNOWN, "array_state": UNKNOWN}, {"mismatches": 128}),
    ],
)
def test_an_array_reports_its_state_and_the_progress_of_a_rebuild(change: dict[str, Any], wanted: dict[str, float]):
    values = found({"drives": [], "arrays": [{**ARRAY, **change}], "mappings": [{"mapped_name": "hot"}], "scrubs": {}})

    assert wanted.items() <= {name.split()[0].removeprefix("array_"): value for name, value in values.items()}.items()
    assert ("array_rebuild_percent md0" in values) == (change.keys() <= {"array_state"})
    assert values["luks_open hot"] == 1


def test_the_readers_are_those_of_the_probe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    machine = FabricatedMachine(tmp_path)
    machine.device("sda", 8 * MIB, SAS)
    (tmp_path / "var/lib/systemd/timers").mkdir(parents=True)
    for name in ("stamp-scrub-warm.timer", "stamp-other.timer"):
        (tmp_path / "var/lib/systemd/timers" / name).touch()
        os.utime(tmp_path / "var/lib/systemd/timers" / name, (500, 500))
    monkeypatch.setattr(health, "health", lambda path: GOOD)
    monkeypatch.setattr(health, "temperature", lambda path: 30)
    facts = drive_metrics.read(machine.top)

    assert [(row["name"], row["health"], row["temperature_celsius"]) for row in facts["drives"]] == [("sda", GOOD, 30)]
    assert (facts["arrays"], facts["mappings"], facts["scrubs"]) == ([], [], {"warm": 500})


def test_the_temperature_comes_from_the_report_of_the_drive(monkeypatch: pytest.MonkeyPatch):
    report = '{"smartctl": {"exit_status": 0}, "temperature": {"current": 41}}'
    monkeypatch.setattr(health, "run_tool", lambda *argv, accepts: report)
    assert health.temperature("/dev/sda") == 41
    monkeypatch.setattr(health, "run_tool", lambda *argv, accepts: '{"smartctl": {"exit_status": 0}}')
    assert health.temperature("/dev/sda") is None


def test_the_program_for_hosts_runs_alone_and_replaces_the_file_at_once(tmp_path: Path):
    program, path = tmp_path / "program", tmp_path / "drives.prom"
    program.write_text(drive_metrics_program().replace("module.write()", f"module.write({str(path)!r})"))
    path.write_text("earlier\n")
    subprocess.run(["/usr/bin/python3", "-I", "-S", str(program)], check=True)

    assert "rackwright_drives_timestamp_seconds" in path.read_text()
    assert [each.name for each in tmp_path.glob("*.tmp")] == []
