"""From a stack's declaration to Pulumi's resources and exports."""

from itertools import groupby
from typing import Any

from rackwright.provider.resources import Managed
from rackwright.stack import Stack, declare
from stacks.gpu_host import GpuHost


def build(stack: Stack) -> dict[str, Any]:
    """Declare every resource of *stack*, one component per host; return what the stack exports."""
    hosts: dict[str, GpuHost] = {}
    made: dict[str, Managed] = {}
    for name, declared in groupby(declare(stack), key=lambda declared: declared.spec.host):
        if name in hosts:  # what comes after resources of other hosts
            hosts[name].add(declared)
        else:
            hosts[name] = GpuHost(name, {"resources": list(declared), "made": made})
    return {"mounts": {name: host.mounts for name, host in hosts.items()}}
