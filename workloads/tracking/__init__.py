"""What a run tells an MLflow server of itself, the versions of models that come of it, and where these come from."""

from workloads.tracking.lineage import Lineage, lineage
from workloads.tracking.registry import fetch, register
from workloads.tracking.server import Server, connect
from workloads.tracking.tracker import Tracker

__all__ = ["Lineage", "Server", "Tracker", "connect", "fetch", "lineage", "register"]
