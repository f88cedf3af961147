"""What drives tell of their health, as smartctl and nvme print it. The samples are written by hand, in the form that
smartctl 7.3 (its man page, reports of its users) and nvme-cli 2.3 give them; none was recorded from a drive."""

import json
from subprocess import CompletedProcess

import pytest

from rackwright.facts.facts import Facts
from rackwright.facts.probe import health, observe
from rackwright.facts.view import UnknownFact

STATISTICS = {"pages": [{"number": 7, "table": [{"name": "Percentage Used Endurance Indicator", "value": 12}]}]}


def ata(*attributes, **more):
    table = [{"id": number, "raw": {"value": value}} for number, value in attributes]
    return {"ata_smart_attributes": {"table": table}, **more}


def counters(**of):
    return {"scsi_error_counter_log": {name: {"total_uncorrected_errors": count} for name, count in of.items()}}


def answer(monkeypatch, printed):
    """Let each tool print what stands under its name, and end as it does then; others are not there."""
    asked = []

    def run(argv, *options):
        asked.append(argv)
        if argv[0] not in printed:
            raise FileNotFoundError(argv[0])
        report, status = printed[argv[0]]
        return CompletedProcess(argv, status, json.dumps(report).encode(), b"")

    monkeypatch.setattr(observe, "run_process", run)
    return asked


def smartctl(monkeypatch, report, status=0, passed=True):
    head = {"smartctl": {"exit_status": status}, "smart_status": {"passed": passed}}
    return answer(monkeypatch, {"smartctl": ({**head, **report}, status)})


@pytest.mark.parametrize(
    ("report", "found"),
    [
        ({"nvme_smart_health_information_log": {"media_errors": 3, "percentage_used": 104}}, (None, 3, 104)),
        (ata((197, 8), (198, 2), rotation_rate=7200), (8, 2, 0)),
        (ata((187, 5), (198, 2), ata_device_statistics=STATISTICS), (None, 5, 12)),
        (ata((197, 0), endurance_used={"current_percent": 7}), (0, None, 7)),
        (counters(read=1, write=0, verify=2) | {"rotation_rate": 10500}, (None, 3, 0)),
        (counters(read=0, write=0) | {"scsi_percentage_used_endurance_indicator": 20}, (None, 0, 20)),
        ({}, (None, None, None)),
    ],
    ids=["nvme", "sata disk", "sata ssd", "sata ssd of 7.5", "sas disk", "sas ssd", "nothing"],
)
def test_each_sort_of_drive_counts_in_its_own_way(monkeypatch, report, found):
    """
    What a drive does not count is none, and no zero; what turns does not wear.
    """
    smartctl(monkeypatch, report)

    seen = health.health("/dev/sda")

    assert (seen["pending_sectors"], seen["media_errors"], seen["wear_percent"]) == found


def test_a_failing_drive_is_one_that_was_asked(monkeypatch):
    """
    smartctl ends with 8 then, and more bits for older failures and for commands that a drive does not know.
    """
    smartctl(monkeypatch, ata((197, 800)), status=0b11101100, passed=False)

    assert health.health("/dev/sda")["passed"] is False


@pytest.mark.parametrize(
    ("expected", "status", "reason"),
    [
        ({"smartctl": {"exit_status": 2, "messages": [{"string": "open failed"}]}}, 2, "smartctl failed: open failed"),
        ({"smartctl": {"exit_status": 1}}, 1, "smartctl failed: no message"),
        ({"smartctl": {"exit_status": 4}}, 4, "the drive reports no SMART health"),
    ],
)
def test_what_was_not_looked_at_is_unknown_with_the_reason(monkeypatch, expected, status, reason):
    answer(monkeypatch, {"smartctl": (expected, status)})

    with pytest.raises(observe.ReadError, match=reason):
        health.health("/dev/sda")


@pytest.mark.parametrize(("warning", "passed"), [(0, True), (4, False)])
def test_an_nvme_is_asked_by_nvme_where_smartctl_is_not_there(monkeypatch, warning, passed):
    content = {"critical_warning": warning, "media_errors": 2, "percent_used": 9}
    answer(monkeypatch, {"nvme": (content, 0)})

    assert health.health("/dev/nvme0n1") == {
        "passed": passed,
        "pending_sectors": None,
        "media_errors": 2,
        "wear_percent": 9,
    }


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("/dev/nvme0n1", "smartctl is not installed, and nvme is not installed"),
        ("/dev/sda", "smartctl is not installed"),
    ],
)
def test_without_a_tool_nothing_is_known(monkeypatch, path, reason):
    answer(monkeypatch, {})

    with pytest.raises(observe.ReadError, match=f"^{reason}$"):
        health.health(path)


def test_only_what_turns_or_speaks_scsi_is_asked_for_its_logs(monkeypatch):
    asked = smartctl(monkeypatch, {})

    for path in ("/dev/nvme0n1", "/dev/sda"):
        health.health(path)

    assert [argv[-1] for argv in asked] == ["/dev/nvme0n1", "/dev/sda"]
    assert ["--log=error" in argv for argv in asked] == [False, True]


def test_a_tool_that_is_killed_has_reported_nothing(monkeypatch):
    """
    Its status is negative then, which has every bit.
    """
    answer(monkeypatch, {"smartctl": ({}, -9)})

    with pytest.raises(observe.ReadError, match="ended with -9"):
        observe.run_tool("smartctl", accepts=0xFF)


def test_an_older_probe_knows_nothing_of_it():
    [drive] = Facts({"drives": [{"name": "sda", "serial": "S1"}]}).drives

    with pytest.raises(UnknownFact):
        drive.health.passed  # noqa: B018
