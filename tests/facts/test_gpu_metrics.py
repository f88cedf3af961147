"""The metrics of GPUs: NVML's values under DCGM's names, and never a value that the driver did not report."""

import re
import subprocess
from pathlib import Path
from typing import Any

from rackwright.facts import gpu_metrics
from rackwright.facts.program import gpu_metrics_program

GPU = {
    "index": 0,
    "uuid": "GPU-1",
    "name": 'A "100"\n',
    "pci_address": "0000:3b:00.0",
    "condition": "working",
    "memory_bytes": 80 << 30,
    "memory_used_bytes": 3 << 30,
    "utilisation_percent": 96,
    "temperature_celsius": 70,
    "power_watts": 301.5,
    "uncorrected_errors": 2,
}


def samples(facts: dict[str, Any]) -> dict[str, float]:
    """Return the values by name and GPU."""
    found = {}
    for line in gpu_metrics.render(facts, 1000.5).splitlines():
        if match := re.fullmatch(r'(\w+)(?:\{gpu="(\d)".*\})? (\S+)', line):
            found[match[1] + (f" {match[2]}" if match[2] else "")] = float(match[3])
    return found


def test_each_value_of_nvml_has_the_name_and_the_unit_of_dcgm():
    xids = [{"pci": "0000:3b:00", "code": 13}, {"pci": "0000:3b:00", "code": 79}, {"pci": "0000:af:00", "code": 48}]
    assert samples({"gpus": [GPU], "xids": xids}) == {
        "DCGM_FI_DEV_GPU_UTIL 0": 96, "DCGM_FI_DEV_GPU_TEMP 0": 70, "DCGM_FI_DEV_POWER_USAGE 0": 301.5,
        "DCGM_FI_DEV_FB_USED 0": 3072, "DCGM_FI_DEV_FB_FREE 0": 78848, "DCGM_FI_DEV_ECC_DBE_VOL_TOTAL 0": 2,
        "DCGM_FI_DEV_XID_ERRORS 0": 79, "rackwright_gpus_read": 1, "rackwright_gpus_working": 1,
        "rackwright_gpus_timestamp_seconds": 1000.5,
    }  # fmt: skip


def test_what_the_driver_does_not_report_is_left_out_and_not_zero():
    unknown = {"unknown": "no answer"}
    lost = {**dict.fromkeys(GPU, unknown), "index": 1, "condition": "lost"}
    found = samples({"gpus": [GPU, lost, {**GPU, "index": 2, "uncorrected_errors": None}], "xids": unknown})

    assert [name for name in found if name.endswith(" 1") or "XID" in name] == []
    assert found["rackwright_gpus_working"] == 2
    assert "DCGM_FI_DEV_ECC_DBE_VOL_TOTAL 2" not in found
    assert samples({"gpus": unknown, "xids": []}) == {
        "rackwright_gpus_read": 0, "rackwright_gpus_timestamp_seconds": 1000.5,
    }  # fmt: skip


def test_each_gpu_that_a_run_has_names_the_run():
    assigned = {"run-letters": {"uuids": ["GPU-1", "GPU-9"]}, "odd": {"unknown": "x"}, "server-x": {"uuids": 5}}
    facts = {"gpus": [GPU, {**GPU, "index": 1, "uuid": {"unknown": "x"}}], "xids": [], "gpu_assignments": assigned}
    lines = [line for line in gpu_metrics.render(facts, 0).splitlines() if line.startswith("rackwright_gpu_assigned")]

    assert lines == ['rackwright_gpu_assigned{gpu="0",owner="run-letters"} 1']


def test_labels_have_a_bound_and_one_line():
    text = gpu_metrics.render({"gpus": [{**GPU, "name": "x" * 1000 + '"'}, GPU], "xids": []}, 0)

    assert 'modelName="A \\"100\\"?"' in text
    assert max(map(len, text.splitlines())) < 300
    assert 'source="nvml"' in text


def test_the_program_for_hosts_runs_alone_and_replaces_the_file_at_once(tmp_path: Path):
    program, path = tmp_path / "program", tmp_path / "gpus.prom"
    text = gpu_metrics_program().replace("module.write()", f"module.write({str(path)!r})")
    program.write_text(text.replace("#!/usr/bin/python3 -ISXutf8", ""))
    path.write_text("earlier\n")
    subprocess.run(["/usr/bin/python3", "-I", "-S", str(program)], check=True)

    assert "rackwright_gpus_read 0\n" in path.read_text() or Path("/dev/nvidiactl").exists()
    assert [each.name for each in tmp_path.glob("*.tmp")] == []
