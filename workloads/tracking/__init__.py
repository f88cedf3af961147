"""MLflow tracking: metrics of runs, registered model versions, and their lineage."""

from workloads.tracking.lineage import Lineage, load_lineage
from workloads.tracking.registry import fetch, register
from workloads.tracking.server import TrackingServer, connect
from workloads.tracking.tracker import Tracker

__all__ = ["Lineage", "Tracker", "TrackingServer", "connect", "fetch", "load_lineage", "register"]
