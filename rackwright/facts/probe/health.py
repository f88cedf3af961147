"""The health that drives report, read by smartctl, or by nvme-cli for an NVMe drive if smartctl fails."""

from __future__ import annotations

import json
import os
from typing import Any

from rackwright.facts.probe.observe import ReadError, run_tool

COMMAND_FAILED = 0b11
"""Bits of smartctl's exit status that report a failed command; the others describe the drive. Source: smartctl(8)."""
PENDING, REPORTED, OFFLINE = 197, 187, 198
"""ATA attributes: sectors that wait for a rewrite, errors after all retries, sectors that failed a scan."""
ENDURANCE = "Percentage Used Endurance Indicator"


def health(path: str) -> dict[str, Any]:
    """Return the health that a drive reports; None for a value that the drive does not count."""
    try:
        return read_smartctl(path)
    except ReadError as reason:
        if not is_nvme(path):
            raise
        try:
            return read_nvme(path)
        except ReadError as other:
            raise ReadError(f"{reason}, and {other}") from None


def is_nvme(path: str) -> bool:
    return os.path.basename(path).startswith("nvme")


def temperature(path: str) -> int | None:
    """Return the temperature that a drive reports, in degrees Celsius; None if it reports none."""
    value = smartctl_report(path).get("temperature", {}).get("current")
    return value if isinstance(value, int) else None


def smartctl_report(path: str) -> dict[str, Any]:
    """Return the report of smartctl about a drive.

    Raises:
        ReadError: smartctl failed, or reports another drive.
    """
    logs = () if is_nvme(path) else ("--log=error", "--log=ssd")
    argv = ("smartctl", "--json=c", "--info", "--health", "--attributes", *logs, path)
    report = parse_json("smartctl", run_tool(*argv, accepts=0xFF))
    if report.get("device", {}).get("name", path) != path:
        raise ReadError(f"smartctl reports {report['device']['name']} instead of {path}")
    if report["smartctl"]["exit_status"] & COMMAND_FAILED:
        messages = "; ".join(message["string"] for message in report["smartctl"].get("messages", ()))
        raise ReadError(f"smartctl failed: {messages or 'no message'}")
    return report


def read_smartctl(path: str) -> dict[str, Any]:
    report = smartctl_report(path)
    if "smart_status" not in report:
        raise ReadError("the drive reports no SMART health")
    table = report.get("ata_smart_attributes", {}).get("table", ())
    attributes = {row["id"]: row["raw"]["value"] for row in table}
    nvme = report.get("nvme_smart_health_information_log", {})
    health = {
        "passed": report["smart_status"]["passed"],
        "pending_sectors": attributes.get(PENDING),
        "media_errors": first(
            nvme.get("media_errors"), attributes.get(REPORTED), attributes.get(OFFLINE), uncorrected_errors(report)
        ),
        "wear_percent": first(nvme.get("percentage_used"), wear(report)),
    }
    return check_counts(health)


def parse_json(program: str, output: str) -> dict[str, Any]:
    """Return the JSON object in the *output* of a program."""
    try:
        value = json.loads(output)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise ReadError(f"the output of {program} is not JSON, or incomplete")
    return value


def check_counts(state: dict[str, Any]) -> dict[str, Any]:
    """Return *state* if each value has the right type.

    Raises:
        ReadError: a value has another type.
    """
    wrong = [key for key, value in state.items() if not isinstance(value, (int, type(None)))]
    if wrong or not isinstance(state["passed"], bool):
        raise ReadError(f"{', '.join(wrong) or 'passed'} has an unknown form")
    return state


def read_nvme(path: str) -> dict[str, Any]:
    report = parse_json("nvme", run_tool("nvme", "smart-log", "--output-format=json", path))
    return {
        "passed": int(report["critical_warning"]) == 0,
        "pending_sectors": None,
        "media_errors": int(report["media_errors"]),
        "wear_percent": int(report["percent_used"]),
    }


def uncorrected_errors(report: dict[str, Any]) -> int | None:
    """Return how many reads, writes and verifications of a SAS drive failed; None for other drives."""
    counters = report.get("scsi_error_counter_log")
    return sum(counter["total_uncorrected_errors"] for counter in counters.values()) if counters else None


def wear(report: dict[str, Any]) -> int | None:
    """Return the used percentage of a drive's rated writes; 0 for a rotational drive."""
    pages = report.get("ata_device_statistics", {}).get("pages", ())
    statistics = {row["name"]: row["value"] for page in pages for row in page.get("table", ()) if "value" in row}
    return first(
        report.get("scsi_percentage_used_endurance_indicator"),
        statistics.get(ENDURANCE),
        report.get("endurance_used", {}).get("current_percent"),
        0 if report.get("rotation_rate") else None,
    )


def first(*values: int | None) -> int | None:
    return next((value for value in values if value is not None), None)
