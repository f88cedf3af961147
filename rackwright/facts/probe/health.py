"""Drives' health, as they tell it themselves: by smartctl, or of NVMe by nvme-cli where that is what there is."""

from __future__ import annotations

import json
import os
from typing import Any

from rackwright.facts.probe.observe import ReadError, tool

NOT_LOOKED = 0b11
"""Bits of smartctl's exit status that tell of a look that failed; the others tell of the drive. Source: smartctl(8)."""
PENDING, REPORTED, OFFLINE = 197, 187, 198
"""ATA's attributes: sectors that wait to be written anew, errors past any retry, sectors that failed a scan."""
ENDURANCE = "Percentage Used Endurance Indicator"


def health(path: str) -> dict[str, Any]:
    """Return what a drive tells of its state; None for what it does not count."""
    try:
        return by_smartctl(path)
    except ReadError as reason:
        if not is_nvme(path):
            raise
        try:
            return by_nvme(path)
        except ReadError as other:
            raise ReadError(f"{reason}, and {other}") from None


def is_nvme(path: str) -> bool:
    return os.path.basename(path).startswith("nvme")


def by_smartctl(path: str) -> dict[str, Any]:
    logs = () if is_nvme(path) else ("--log=error", "--log=ssd")
    argv = ("smartctl", "--json=c", "--info", "--health", "--attributes", *logs, path)
    told = answer("smartctl", tool(*argv, accepts=0xFF))
    if told.get("device", {}).get("name", path) != path:
        raise ReadError(f"smartctl tells of {told['device']['name']}, and was asked about {path}")
    if told["smartctl"]["exit_status"] & NOT_LOOKED:
        said = "; ".join(message["string"] for message in told["smartctl"].get("messages", ()))
        raise ReadError(f"smartctl says: {said or 'nothing'}")
    if "smart_status" not in told:
        raise ReadError("it tells no state of its health by SMART")
    table = told.get("ata_smart_attributes", {}).get("table", ())
    attributes = {row["id"]: row["raw"]["value"] for row in table}
    nvme = told.get("nvme_smart_health_information_log", {})
    state = {
        "passed": told["smart_status"]["passed"],
        "pending_sectors": attributes.get(PENDING),
        "media_errors": first(
            nvme.get("media_errors"), attributes.get(REPORTED), attributes.get(OFFLINE), uncorrected(told)
        ),
        "wear_percent": first(nvme.get("percentage_used"), wear(told)),
    }
    return counted(state)


def answer(program: str, printed: str) -> dict[str, Any]:
    """Return the JSON object that a program has *printed*."""
    try:
        found = json.loads(printed)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise ReadError(f"what {program} prints is not its JSON, or not all of it")
    return found


def counted(state: dict[str, Any]) -> dict[str, Any]:
    """Return *state*, if it consists of what a drive counts."""
    wrong = [key for key, value in state.items() if not isinstance(value, (int, type(None)))]
    if wrong or not isinstance(state["passed"], bool):
        raise ReadError(f"{', '.join(wrong) or 'passed'} is told in another form than is known")
    return state


def by_nvme(path: str) -> dict[str, Any]:
    told = answer("nvme", tool("nvme", "smart-log", "--output-format=json", path))
    return {
        "passed": int(told["critical_warning"]) == 0,
        "pending_sectors": None,
        "media_errors": int(told["media_errors"]),
        "wear_percent": int(told["percent_used"]),
    }


def uncorrected(told: dict[str, Any]) -> int | None:
    """Return how often a SAS drive could not read, write or verify."""
    counters = told.get("scsi_error_counter_log")
    return sum(counter["total_uncorrected_errors"] for counter in counters.values()) if counters else None


def wear(told: dict[str, Any]) -> int | None:
    """Return the used share of the writes that a drive was made for; none of it for one that turns."""
    pages = told.get("ata_device_statistics", {}).get("pages", ())
    statistics = {row["name"]: row["value"] for page in pages for row in page.get("table", ()) if "value" in row}
    return first(
        told.get("scsi_percentage_used_endurance_indicator"),
        statistics.get(ENDURANCE),
        told.get("endurance_used", {}).get("current_percent"),
        0 if told.get("rotation_rate") else None,
    )


def first(*values: int | None) -> int | None:
    return next((value for value in values if value is not None), None)
