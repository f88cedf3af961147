"""The example cluster on its twin, and what kubectl says there."""

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from tests.support.lab import Lab
from tests.support.log import ROOT, Log

PLANE, NODES = "cp-01", ("node-01", "node-02")
HOSTS, ADDRESS = (PLANE, *NODES), "10.41.0.11"
KUBECTL = "kubectl --kubeconfig /etc/kubernetes/admin.conf"


@contextmanager
def cluster(
    log: Log,
    change: Callable[[Any], None] = lambda fleet: None,
    tools: Sequence[str] = ("kubernetes",),
    hosts: Sequence[str] = HOSTS,
) -> Iterator[Lab]:
    """Yield the project of the example fleet, after *change* of its file, with its twin on.

    Args:
        tools: Names of the tools whose packages the hosts install.
        hosts: The hosts of the fleet after that change.
    """
    fleet = ROOT / "stacks" / "cluster.yaml"
    with Lab(log.empty_directory() / "project", fleet, log, "cluster", containers=hosts) as lab:
        lab.edit(change)
        log("building Kubernetes, or finding it built")
        for name in tools:
            lab.rackwright("toolchain", name, status=0)
        lab.rackwright("lock", "--fetch", "cluster", status=0)
        lab.start()
        yield lab


def kubectl(lab: Lab, arguments: str) -> Any:
    """Return the JSON that kubectl prints on the control plane; a list without items if it fails."""
    output = lab.ssh(PLANE, f"{KUBECTL} {arguments} --output json", status=None)
    return json.loads(output) if output.startswith("{") else {"items": []}


def ready_nodes(lab: Lab) -> dict[str, bool]:
    """Return whether each node is ready."""
    return {
        node["metadata"]["name"]: any(
            each["type"] == "Ready" and each["status"] == "True" for each in node["status"]["conditions"]
        )
        for node in kubectl(lab, "get nodes")["items"]
    }


def system_pods(lab: Lab) -> dict[str, str]:
    """Return the phase of each pod of the system."""
    pods = kubectl(lab, "get pods --namespace kube-system")["items"]
    return {pod["metadata"]["name"]: pod["status"]["phase"] for pod in pods}
