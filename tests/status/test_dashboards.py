"""The dashboards: files that Grafana can read, and queries that return what was recorded."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from rackwright.errors import SetupError
from rackwright.status import dashboards
from rackwright.status.dashboards import DASHBOARDS
from tests.support.debian_programs import debian_program

HOST = 'instance="gpu-01"'
SERVER = f'server="chat",{HOST}'
RUN = f'run="letters",{HOST}'
GPU = f'gpu="0",{HOST}'
RECORDED: dict[str, tuple[dict[str, str], dict[str, float]]] = {
    "Hosts reached": ({f'up{{job="proxy",{HOST}}}': "1x10"}, {f'up{{job="proxy",{HOST}}}': 1}),
    "Alerts": (
        {'ALERTS{alertstate="firing",severity="critical",alertname="A"}': "1x10"}, {'{severity="critical"}': 1},
    ),
    "Processors in use": ({f'node_cpu_seconds_total{{mode="idle",{HOST}}}': "0+15x10"}, {f"{{{HOST}}}": 75}),
    "Memory in use": (
        {f"node_memory_MemAvailable_bytes{{{HOST}}}": "40x10", f"node_memory_MemTotal_bytes{{{HOST}}}": "100x10"},
        {f"{{{HOST}}}": 60},
    ),
    "Filesystems in use": (
        {
            f'node_filesystem_avail_bytes{{fstype="xfs",mountpoint="/srv",{HOST}}}': "10x10",
            f'node_filesystem_size_bytes{{fstype="xfs",mountpoint="/srv",{HOST}}}': "100x10",
        },
        {f'{{fstype="xfs",mountpoint="/srv",{HOST}}}': 90},
    ),
    "GPUs in use": ({f"DCGM_FI_DEV_GPU_UTIL{{{GPU}}}": "97x10"}, {f"DCGM_FI_DEV_GPU_UTIL{{{GPU}}}": 97}),
    "Temperature of GPUs": ({f"DCGM_FI_DEV_GPU_TEMP{{{GPU}}}": "70x10"}, {f"DCGM_FI_DEV_GPU_TEMP{{{GPU}}}": 70}),
    "Wear of drives": (
        {f'rackwright_drive_wear_percent{{serial="S1",{HOST}}}': "7x10"},
        {f'rackwright_drive_wear_percent{{serial="S1",{HOST}}}': 7},
    ),
    "Missing members of arrays": (
        {f'rackwright_array_members_missing{{array="a:hot",{HOST}}}': "1x10"},
        {f'rackwright_array_members_missing{{array="a:hot",{HOST}}}': 1},
    ),
    "Findings of audits": (
        {'rackwright_audit_findings{stack="rack",state="differs"}': "3x10"},
        {'rackwright_audit_findings{stack="rack",state="differs"}': 3},
    ),
    "Progress": (
        {f"rackwright_run_step{{{RUN}}}": "75x10", f"rackwright_run_steps{{{RUN}}}": "300x10"}, {f"{{{RUN}}}": 25},
    ),
    "Loss": ({f"rackwright_run_loss{{{RUN}}}": "1.5x10"}, {f"rackwright_run_loss{{{RUN}}}": 1.5}),
    "Time of a step": ({f"rackwright_run_step_seconds{{{RUN}}}": "2x10"}, {f"rackwright_run_step_seconds{{{RUN}}}": 2}),
    "Steps since the newest checkpoint": (
        {f"rackwright_run_step{{{RUN}}}": "75x10", f"rackwright_run_checkpoint_step{{{RUN}}}": "50x10"},
        {f"{{{RUN}}}": 25},
    ),
    "Ready": ({f"rackwright_server_up{{{SERVER}}}": "1x10"}, {f"rackwright_server_up{{{SERVER}}}": 1}),
    "Requests per second": (
        {f'rackwright_server_requests_total{{route="/x",status="200",{SERVER}}}': "0+120x10"},
        {f'{{status="200",{SERVER}}}': 2},
    ),
    "Time of 99 of 100 requests": (
        {f'rackwright_server_request_seconds_bucket{{le="{le}",{SERVER}}}': "0+100x10" for le in ("1", "+Inf")},
        {f"{{{SERVER}}}": 0.99},
    ),
    "Time to the first token of 99 of 100 texts": (
        {f'rackwright_server_first_token_seconds_bucket{{le="{le}",{SERVER}}}': "0+100x10" for le in ("2", "+Inf")},
        {f"{{{SERVER}}}": 1.98},
    ),
    "Requests that wait": (
        {f"rackwright_server_queue_requests{{{SERVER}}}": "4x10"}, {f"rackwright_server_queue_requests{{{SERVER}}}": 4},
    ),
    "Tokens per second": (
        {f'rackwright_server_tokens_total{{kind="completion",key="ward",{SERVER}}}': "0+6000x10"},
        {f'{{kind="completion",{SERVER}}}': 100},
    ),
    "Accuracy of the canary": (
        {f"rackwright_server_accuracy{{{SERVER}}}": "0.9x10"}, {f"rackwright_server_accuracy{{{SERVER}}}": 0.9},
    ),
}  # fmt: skip
"""Series of a value each minute, and what the panel's query returns after ten minutes, by the title of the panel."""


def test_the_query_of_each_panel_returns_what_was_recorded(tmp_path: Path):
    panels = {panel.title: panel for several in DASHBOARDS.values() for panel in several}
    tests: list[dict[str, Any]] = [
        {
            "interval": "1m",
            "input_series": [{"series": name, "values": values} for name, values in RECORDED[title][0].items()],
            "promql_expr_test": [
                {
                    "expr": panel.query,
                    "eval_time": "10m",
                    "exp_samples": [{"labels": labels, "value": value} for labels, value in RECORDED[title][1].items()],
                }
            ],
        }
        for title, panel in panels.items()
    ]
    (tmp_path / "tests.yml").write_text(yaml.safe_dump({"evaluation_interval": "1m", "tests": tests}))
    argv = [str(debian_program("promtool", "prometheus")), "test", "rules", "tests.yml"]
    done = subprocess.run(argv, cwd=tmp_path, capture_output=True, text=True)

    assert panels.keys() == RECORDED.keys()
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_files_are_dashboards_of_grafana_and_a_provider(tmp_path: Path):
    paths = dashboards.write(tmp_path / "new")
    boards = [json.loads(path.read_text()) for path in paths if path.suffix == ".json"]

    assert [path.name for path in paths] == ["rack.json", "training-run.json", "model-server.json", "provider.yaml"]
    for (title, panels), board in zip(DASHBOARDS.items(), boards, strict=True):
        drawn = [(each["title"], each["targets"][0]["expr"]) for each in board["panels"]]
        assert (board["title"], drawn) == (title, [(panel.title, panel.query) for panel in panels])
        places = {(each["gridPos"]["x"], each["gridPos"]["y"]) for each in board["panels"]}
        assert len(places) == len(panels), "no panel is on another one"
    assert yaml.safe_load((tmp_path / "new/provider.yaml").read_text())["providers"][0]["type"] == "file"


def test_a_directory_that_cannot_be_written_is_one_plain_error(tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(SetupError, match="the dashboards cannot be written"):
        dashboards.write(tmp_path / "file")
