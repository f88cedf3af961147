"""The Pulumi program of a stack: its resources and exports."""

from itertools import groupby
from typing import Any

from rackwright.provider.resources import ManagedResource
from rackwright.stack import Stack, declare
from stacks.gpu_host import GpuHost


def build(stack: Stack) -> dict[str, Any]:
    """Declare all resources of *stack*, one component per host, and return the exports of the stack."""
    hosts: dict[str, GpuHost] = {}
    managed_resources: dict[str, ManagedResource] = {}
    for name, resources in groupby(declare(stack), key=lambda resource: resource.spec.host):
        if name in hosts:  # resources that come after those of other hosts
            hosts[name].add(resources)
        else:
            hosts[name] = GpuHost(name, {"resources": list(resources), "managed_resources": managed_resources})
    return {"mounts": {name: host.mounts for name, host in hosts.items()}}
