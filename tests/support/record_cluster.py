"""Record the facts of a cluster of others from a real API server: python -m tests.support.record_cluster [PROGRAMS]

The facts go to tests/kinds/recorded/kubernetes-shared.json. PROGRAMS is a directory with etcd, kube-apiserver and
kubectl; without it, those of `rackwright toolchain kubernetes` are used, and built if there are none.
"""

import json
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rackwright.endpoints.kubernetes import KubernetesClient
from rackwright.endpoints.kubernetes_facts import NODES, OBJECTS
from rackwright.kinds.cluster.team import TeamPart, objects
from rackwright.schema.cluster import Team
from rackwright.schema.cluster_api import ClusterApi
from rackwright.schema.units import Size
from rackwright.toolchain.kubernetes import programs
from tests.support import recordings
from tests.support.api_server import ApiServer, api_server
from tests.support.log import ROOT

RECORDED = ROOT / "tests/kinds/recorded/kubernetes-shared.json"
NODES_DECLARED: dict[str, Any] = {
    "cp-1.shared.example": {
        "labels": {"rack": "c0"},
        "taints": [{"key": "node-role.kubernetes.io/control-plane", "effect": "NoSchedule"}],
    },
    "gpu-21": {"labels": {"rack": "c2"}},
    "gpu-22": {"labels": {"rack": "c2"}, "taints": [{"key": "reserved", "value": "team-a", "effect": "NoSchedule"}]},
}
"""The nodes of the cluster, as tests/kinds/shared.yaml declares them."""
VISION = Team(cpus=64, memory=Size("512GiB"), gpus=4, operators=("ops",), viewers=("auditors",))
"""The team of the cluster."""
LISTS = tuple(
    path.removeprefix("/apis/").removeprefix("/api/").replace("v1/", "") for path in (NODES, *OBJECTS.values())
)
"""Resources that the account of the token lists, as GROUP/RESOURCE."""


def make(api: ApiServer, team: Team) -> None:
    """Make a cluster as it is declared: nodes that report to be ready, and the objects of the team *vision*."""
    for name, node in NODES_DECLARED.items():
        api.add_node(name, node["labels"], node.get("taints", ()))
    api.apply(*objects((TeamPart(name="vision", declared=team),)).values())


def record(directory: Path) -> Mapping[str, Any]:
    """Return the facts of a cluster as the token of an account without other rights reads them.

    Args:
        directory: The programs of Kubernetes and etcd.
    """
    with tempfile.TemporaryDirectory() as data, api_server(Path(data), directory) as api:
        make(api, VISION)
        declared = ClusterApi(url=api.url, ca=api.authority, token={"secret": "shared_token"})
        return KubernetesClient("kubernetes:shared", declared, api.token("reader", LISTS), "").read().raw


def main(arguments: Sequence[str]) -> None:
    """Write the facts to RECORDED, with the time of the earlier ones, so that only what differs is a change."""
    directory = Path(arguments[0]) if arguments else programs.ensure_programs(lambda text: print(text, file=sys.stderr))
    facts = {**record(directory), "taken_at": json.loads(RECORDED.read_text())["taken_at"]}
    recordings.write(RECORDED, facts)


if __name__ == "__main__":
    main(sys.argv[1:])
