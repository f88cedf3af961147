"""A cluster of Kubernetes on containers of a twin, and a stack of runs and servers in its pods."""

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest

from rackwright.twin.layout import Layout
from tests.support.lab import Lab
from tests.support.log import Log

PLANE, NODES = "plane", ("oak", "elm", "ash")
HOSTS = (PLANE, *NODES)
TEAM = "vision"
KUBECTL = "kubectl --kubeconfig /etc/kubernetes/admin.conf"
RACK = (
    """\
fleet: grove
mirror: {}
groups:
  kubernetes:
    os: debian-12
    network: {}
    roles:
      base: {security_updates: false, packages: [curl]}
      container_runtime: {engine: containerd, version: 2.4.2, pause_image: "registry.k8s.io/pause:3.10.2"}
hosts:
"""
    + "".join(
        f"""\
  {name}:
    group: kubernetes
    address: 192.0.2.15{number}
    identity: {{serial: GROVE-{number}}}
    nics: [{{name: fabric0, mac: "52:54:00:00:47:0{number}", addresses: [10.47.0.1{number}/24]}}]
"""
        + ("" if name == PLANE else "    tiers: {warm: {provided: true, mount: /srv/warm}}\n")
        + f"""\
    roles:
      kubernetes_node: {{address: 10.47.0.1{number}, pod_network: 10.247.{number}.0/24}}
"""
        + (
            f"""\
      kubernetes_control_plane:
        address: 10.47.0.1{number}
        pod_network: 10.247.0.0/16
        encryption_key: {{secret: cluster_encryption}}
"""
            if name == PLANE
            else ""
        )
        for number, name in enumerate(HOSTS, start=1)
    )
    + f"""\
clusters:
  main:
    control_plane: {PLANE}
    nodes: {{{", ".join(f"{node}: {{}}" for node in NODES)}}}
    teams:
      {TEAM}: {{cpus: 64, memory: 64GiB}}
"""
)


class PodLab(Lab):
    """A lab with the stack of runs and servers, and a second stack of the hosts of the cluster."""

    hosts_stack = "grove"

    def kubectl(self, arguments: str, status: int | None = 0) -> str:
        """Run kubectl on the control plane, and return what it prints."""
        return self.ssh(PLANE, f"{KUBECTL} {arguments}", status=status)

    def pods(self, selector: str) -> dict[str, str]:
        """Return the node of each pod that is not about to end, by its name."""
        pods = json.loads(self.kubectl(f"get pods --namespace {TEAM} --selector {selector} --output json"))["items"]
        living = (pod for pod in pods if "deletionTimestamp" not in pod["metadata"])
        return {pod["metadata"]["name"]: pod["spec"].get("nodeName", "") for pod in living}

    def run_status(self, run: str) -> dict[str, Any]:
        status: dict[str, Any] = json.loads(self.rackwright("run", "status", self.stack, run, "--json").stdout)
        return status

    def out(self, host: str, run: str) -> Path:
        """Return the directory of this computer that is that of *run* on its tier of *host*."""
        layout = Layout(self.directory / ".rackwright" / "twins" / self.hosts_stack)
        return layout.provided_tier(host, "/srv/warm") / "runs" / run


@contextmanager
def pod_lab(
    log: Log,
    workloads: str,
    cluster: Mapping[str, Any] = MappingProxyType({}),
    roles: Mapping[str, Any] = MappingProxyType({}),
) -> Iterator[PodLab]:
    """Yield a lab with a cluster, and with the stack of the fleet *workloads*, whose `up` has not run yet.

    Args:
        cluster: Further keys of the cluster in its fleet.
        roles: Further roles of hosts, by the names of the hosts.
    """
    if os.geteuid() != 0:
        pytest.skip("containers need root")
    with PodLab(log.empty_directory() / "project", RACK, log, "grove", containers=HOSTS, workloads=True) as lab:
        lab.add_stack("workloads", workloads)
        lab.edit(lambda fleet: _extend(fleet, cluster, roles))
        log("building Kubernetes, or finding it built")
        for name in ("kubernetes", *(f"kubernetes-{each}" for each in ("queue", "groups") if cluster.get(each))):
            lab.rackwright("toolchain", name, status=0)
        lab.rackwright("lock", "--fetch", lab.stack, status=0)
        lab.start()
        log("making the cluster")
        lab.up()
        lab.stack = "workloads"
        yield lab


def _extend(fleet: Any, cluster: Mapping[str, Any], roles: Mapping[str, Any]) -> None:
    fleet["clusters"]["main"].update(cluster)
    for host, more in roles.items():
        fleet["hosts"][host]["roles"].update(more)
