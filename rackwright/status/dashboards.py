"""Dashboards of Grafana for the metrics of monitoring: data, and the JSON that Grafana provisions from files."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rackwright import extras
from rackwright.errors import Diagnostic, SetupError
from rackwright.files import write_atomic

FOLDER = "rackwright"
WIDTH, HEIGHT = 12, 8
"""Size of a panel; a row of Grafana is 24 wide."""


@dataclass(frozen=True, slots=True)
class DashboardPanel:
    """A panel with one query."""

    title: str
    unit: str
    """Unit in Grafana's words: percent, s, celsius, short."""
    query: str
    """Expression of Prometheus."""
    legend: str
    """Name of each series, with labels in double braces."""


_GPU, _SERVER, _RUN = "{{instance}} GPU {{gpu}}", "{{server}} on {{instance}}", "{{run}} on {{instance}}"
_BY_SERVER = "sum by (instance, server, le)"
DASHBOARDS: Mapping[str, tuple[DashboardPanel, ...]] = {
    "Rack": (
        DashboardPanel("Hosts reached", "short", 'up{job="proxy"}', "{{instance}}"),
        DashboardPanel("Alerts", "short", 'count by (severity) (ALERTS{alertstate="firing"})', "{{severity}}"),
        DashboardPanel(
            "Processors in use",
            "percent",
            '100 - 100 * avg by (instance) (rate(node_cpu_seconds_total{mode="idle"}[5m30s]))',
            "{{instance}}",
        ),
        DashboardPanel(
            "Memory in use",
            "percent",
            "100 - 100 * node_memory_MemAvailable_bytes / node_memory_MemTotal_bytes",
            "{{instance}}",
        ),
        DashboardPanel(
            "Filesystems in use",
            "percent",
            '100 - 100 * node_filesystem_avail_bytes{fstype=~"ext4|xfs|btrfs"} / node_filesystem_size_bytes',
            "{{instance}} {{mountpoint}}",
        ),
        DashboardPanel("GPUs in use", "percent", "DCGM_FI_DEV_GPU_UTIL", _GPU),
        DashboardPanel("Temperature of GPUs", "celsius", "DCGM_FI_DEV_GPU_TEMP", _GPU),
        DashboardPanel("Wear of drives", "percent", "rackwright_drive_wear_percent", "{{instance}} {{serial}}"),
        DashboardPanel(
            "Missing members of arrays", "short", "rackwright_array_members_missing", "{{instance}} {{array}}"
        ),
        DashboardPanel("Findings of audits", "short", "rackwright_audit_findings", "{{stack}} {{state}}"),
    ),
    "Training run": (
        DashboardPanel("Progress", "percent", "100 * rackwright_run_step / rackwright_run_steps", _RUN),
        DashboardPanel("Loss", "short", "rackwright_run_loss", _RUN),
        DashboardPanel("Time of a step", "s", "rackwright_run_step_seconds", _RUN),
        DashboardPanel(
            "Steps since the newest checkpoint", "short", "rackwright_run_step - rackwright_run_checkpoint_step", _RUN
        ),
    ),
    "Model server": (
        DashboardPanel("Ready", "short", "rackwright_server_up", _SERVER),
        DashboardPanel(
            "Requests per second",
            "reqps",
            "sum by (instance, server, status) (rate(rackwright_server_requests_total[5m30s]))",
            f"{_SERVER} {{{{status}}}}",
        ),
        DashboardPanel(
            "Time of 99 of 100 requests",
            "s",
            f"histogram_quantile(0.99, {_BY_SERVER} (rate(rackwright_server_request_seconds_bucket[5m30s])))",
            _SERVER,
        ),
        DashboardPanel(
            "Time to the first token of 99 of 100 texts",
            "s",
            f"histogram_quantile(0.99, {_BY_SERVER} (rate(rackwright_server_first_token_seconds_bucket[5m30s])))",
            _SERVER,
        ),
        DashboardPanel("Requests that wait", "short", "rackwright_server_queue_requests", _SERVER),
        DashboardPanel(
            "Tokens per second",
            "short",
            "sum by (instance, server, kind) (rate(rackwright_server_tokens_total[5m30s]))",
            f"{_SERVER} {{{{kind}}}}",
        ),
        DashboardPanel("Accuracy of the canary", "percentunit", "rackwright_server_accuracy", _SERVER),
    ),
}
PROVIDER = {
    "apiVersion": 1,
    "providers": [
        {"name": FOLDER, "folder": FOLDER, "type": "file", "options": {"path": "/var/lib/grafana/rackwright"}}
    ],
}
"""Content of a file in Grafana's `provisioning/dashboards`; JSON is YAML."""


def write(directory: Path) -> list[Path]:
    """Write all dashboards and the file of their provider to *directory*, and return their paths.

    Raises:
        SetupError: The package for them is missing, or the directory cannot be written.
    """
    texts = {f"{_slug(title)}.json": _render(title, panels) for title, panels in DASHBOARDS.items()}
    texts["provider.yaml"] = json.dumps(PROVIDER, indent=2) + "\n"
    try:
        directory.mkdir(parents=True, exist_ok=True)
        for name, text in texts.items():
            write_atomic(directory / name, text)
    except OSError as error:
        problem = f"the dashboards cannot be written: {error.strerror}"
        raise SetupError(Diagnostic(str(directory), problem, help="Name a writable directory")) from None
    return [directory / name for name in texts]


def _render(title: str, panels: tuple[DashboardPanel, ...]) -> str:
    """Return a dashboard as JSON of Grafana."""
    try:
        from grafana_foundation_sdk.builders import dashboard, prometheus, timeseries
        from grafana_foundation_sdk.cog.encoder import JSONEncoder
    except ImportError:
        extras.DASHBOARDS.require("dashboards", "the library that writes dashboards of Grafana")
        raise
    board = dashboard.Dashboard(title).uid(f"{FOLDER}-{_slug(title)}").tags([FOLDER])
    for panel in panels:
        target = prometheus.Dataquery().expr(panel.query).legend_format(panel.legend).ref_id("A")
        drawn = timeseries.Panel().title(panel.title).unit(panel.unit).span(WIDTH).height(HEIGHT).with_target(target)
        board = board.with_panel(drawn)
    text: Any = JSONEncoder(sort_keys=True, indent=2).encode(board.build())
    return f"{text}\n"


def _slug(title: str) -> str:
    return title.lower().replace(" ", "-")
