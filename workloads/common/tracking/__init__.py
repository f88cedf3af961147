"""What a run tells an MLflow server of itself, the versions of models that come of it, and where these come from."""

from workloads.common.tracking.lineage import Lineage, lineage
from workloads.common.tracking.registry import fetch, register
from workloads.common.tracking.server import Server, connect
from workloads.common.tracking.tracker import Tracker

__all__ = ["Lineage", "Server", "Tracker", "connect", "fetch", "lineage", "register"]
