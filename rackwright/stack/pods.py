"""The resources of a run or server in pods: its files on each host, then its objects at the control plane."""

from collections.abc import Iterator
from typing import Any

from rackwright.kinds.pods import PodFilesKind, PodFilesSpec, PodsKind, PodsSpec
from rackwright.kinds.pods.spec import AutoscalePart, RunPart, ServerPart, WorkloadPart
from rackwright.schema.pods import Pods, cluster_of
from rackwright.stack.resource import DeclaredResource
from rackwright.stack.stack import Stack


def resources(
    stack: Stack,
    members: tuple[str, ...],
    pods: Pods,
    name: str,
    environment: str,
    part: RunPart | ServerPart,
) -> Iterator[DeclaredResource]:
    """Yield the resources of run or server *name*; that of the control plane comes after those of the hosts."""
    found = cluster_of(members, stack.fleet.clusters)
    assert found is not None  # the schema has checked it
    workload = WorkloadPart(
        sort="run" if isinstance(part, RunPart) else "server",
        name=name,
        team=pods.team,
        hosts=members,
        count=pods.smallest(len(members)),
        autoscale=AutoscalePart(**pods.autoscale.model_dump()) if pods.autoscale else None,
        cpus=pods.cpus,
        memory=int(pods.memory),
        gpus=pods.gpus,
        environment=environment,
        queue=found[1].queue,
        run=part if isinstance(part, RunPart) else None,
        server=part if isinstance(part, ServerPart) else None,
    )
    files = [
        DeclaredResource(PodFilesKind(), PodFilesSpec(**_common(stack, host), workload=workload)) for host in members
    ]
    yield from files
    spec = PodsSpec(**_common(stack, found[1].control_planes[0]), workload=workload)
    yield DeclaredResource(PodsKind(), spec, tuple(each.name for each in files))


def _common(stack: Stack, host: str) -> dict[str, Any]:
    return {
        "host": host,
        "not_rehearsable": stack.not_rehearsable(host),
        "identity": dict([stack.fleet.hosts[host].identity.strongest]),
        "fleet": stack.fleet.fleet,
    }
