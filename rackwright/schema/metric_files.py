"""Files of metrics that roles write for the exporter of their host, which serves no others."""

from collections.abc import Iterable, Mapping
from typing import Any

EXPORTER = "node_exporter"
FILES = {
    "drive_exporter": "rackwright_drives.prom",
    "gpu_exporter": "rackwright_gpus.prom",
    "cluster_exporter": "rackwright_cluster.prom",
}
"""The file of each role that writes one."""


def audit_file(stack: str) -> str:
    """Return the name of the file with the metrics of the audit of *stack*, which comes from another computer."""
    return f"rackwright_audit_{stack}.prom"


def variables(roles: Iterable[str], declared: Mapping[str, Any]) -> dict[str, Any]:
    """Return the *declared* variables of role EXPORTER, with the files of the *roles* of its host."""
    files, own = [FILES[role] for role in FILES if role in roles], declared.get("textfiles", [])
    if not files or not isinstance(own, list):
        return dict(declared)
    return {**declared, "textfiles": [*dict.fromkeys((*files, *own))]}
