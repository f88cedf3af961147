"""A run and a server in pods, as samples, and their objects."""

from typing import Any

from rackwright.core.repository import Repository
from rackwright.kinds.pods import PodsSpec
from rackwright.kinds.pods.objects import objects
from rackwright.kinds.pods.spec import RowsPart, RunPart, ServerPart, WorkloadPart
from tests.support.recorded_hosts import STACK

REPOSITORY: Repository = STACK.repository
RUN = RunPart(
    config='{"model": {"kind": "x"}, "steps": 10}', processes=1, mount="/srv/warm", restart=True, grace_seconds=90
)
SERVER = ServerPart(
    settings={"host": "0.0.0.0", "port": 8080, "anybody": True},
    port=80,
    model="digits",
    version="0123456789ab",
    source="/models/digits",
    files={"model.json": "ab" * 32},
    ready_seconds=60,
    stop_seconds=50,
    rows=RowsPart(source="/rows.npz", sha256="cd" * 32, accuracy=0.5),
)
COMMON: dict[str, Any] = {
    "team": "vision",
    "hosts": ("oak", "elm", "ash"),
    "count": 2,
    "cpus": 1,
    "memory": 2 << 30,
    "gpus": 0,
    "environment": "/opt/workloads",
}
TRAINING = WorkloadPart(sort="run", name="digits", run=RUN, **COMMON)
SERVING = WorkloadPart(sort="server", name="digits", server=SERVER, **COMMON)
GROUPED = SERVING.model_copy(
    update={
        "name": "racks",
        "hosts": ("oak", "elm", "ash", "fir"),
        "count": 4,
        "server": SERVER.model_copy(
            update={
                "model": "racks",
                "rows": None,
                "vllm": True,
                "replica_pods": 2,
                "replica_port": 29500,
                "lease_secret": "fleet_key",
            }
        ),
    }
)
"""A server with two replicas of two pods each."""
IDENTITY = {"serial": "S-PLANE"}


def spec_of(workload: WorkloadPart) -> PodsSpec:
    return PodsSpec(host="plane", fleet="f", identity=IDENTITY, workload=workload)


def made(workload: WorkloadPart) -> dict[str, Any]:
    return objects(spec_of(workload), REPOSITORY)
