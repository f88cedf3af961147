"""The program that writes metrics of the GPUs into a file of node_exporter; a timer of the host starts it.

Names and units are those of NVIDIA's dcgm-exporter where NVML has the value; the label ``source`` names NVML, because
DCGM has further metrics, and rounds others. Source: NVIDIA DCGM field identifiers, dcgm-exporter's default counters.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

from rackwright.facts.metrics_text import Sample, collect, number_of, rows_of, table_of, to_text, write_file
from rackwright.facts.probe import gpus
from rackwright.facts.probe.observe import attempt

PATH = "/var/lib/prometheus/node-exporter/rackwright_gpus.prom"
MIB = 1 << 20


def write(path: str = PATH) -> None:
    """Write the metrics of all GPUs."""
    assigned = attempt(gpus.assignments, "")
    write_file(path, render({**gpus.gpus(""), "gpu_assignments": assigned}, time.time()))


def render(facts: dict[str, Any], now: float) -> str:
    """Return the metrics in Prometheus's text format; without an answer of the driver, only that it is missing.

    Args:
        facts: The answer of `probe.gpus.gpus`, and that of `probe.gpus.assignments`.
        now: Time of the reading, in seconds since 1970.
    """
    rows, xids = facts.get("gpus"), facts.get("xids")
    samples: list[Sample] = [("rackwright_gpus_read", {}, float(isinstance(rows, list)))]
    samples.append(("rackwright_gpus_timestamp_seconds", {}, round(now, 3)))
    if isinstance(rows, list):
        working = [row for row in rows if isinstance(row, dict) and row.get("condition") == "working"]
        samples.append(("rackwright_gpus_working", {}, float(len(working))))
        samples += collect(_samples, ((row, xids if isinstance(xids, list) else None) for row in rows))
        samples += collect(_assignments, ((rows, *each) for each in table_of(facts, "gpu_assignments").items()))
    return to_text(samples)


def _assignments(rows: list[Any], owner: str, assignment: Any) -> Iterator[Sample]:
    """Yield a sample for each GPU that a run or a server has, by its name, such as ``run-letters``."""
    uuids = rows_of(assignment, "uuids")
    for row in rows:
        if row["uuid"] in uuids:
            yield "rackwright_gpu_assigned", {"gpu": str(row["index"]), "owner": owner}, 1.0


def _samples(row: dict[str, Any], xids: list[dict[str, Any]] | None) -> Iterator[Sample]:
    """Yield the samples of one GPU: those whose value the driver reports."""
    labels = {"gpu": str(row["index"]), "source": "nvml"}
    for label, key in (("UUID", "uuid"), ("pci_bus_id", "pci_address"), ("modelName", "name")):
        if isinstance(row.get(key), str):
            labels[label] = row[key]
    total, used = row.get("memory_bytes"), row.get("memory_used_bytes")
    values = {
        "DCGM_FI_DEV_GPU_UTIL": row.get("utilisation_percent"),
        "DCGM_FI_DEV_GPU_TEMP": row.get("temperature_celsius"),
        "DCGM_FI_DEV_POWER_USAGE": row.get("power_watts"),
        "DCGM_FI_DEV_FB_USED": used // MIB if isinstance(used, int) else None,
        "DCGM_FI_DEV_FB_FREE": (total - used) // MIB if isinstance(total, int) and isinstance(used, int) else None,
        "DCGM_FI_DEV_ECC_DBE_VOL_TOTAL": row.get("uncorrected_errors"),
        "DCGM_FI_DEV_XID_ERRORS": None if xids is None else _last_xid(row, xids),
    }
    for name in values:
        if (value := number_of(values, name)) is not None:
            yield name, labels, value


def _last_xid(row: dict[str, Any], xids: list[dict[str, Any]]) -> int:
    """Return the code of the last error of a GPU since the kernel started, as DCGM does; 0 for none."""
    # the kernel log has 0000:3b:00 for 0000:3b:00.0
    address = str(row.get("pci_address")).rpartition(".")[0]
    codes = [xid["code"] for xid in xids if address and str(xid["pci"])[-len(address) :] == address]
    return codes[-1] if codes else 0
