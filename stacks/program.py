"""From a stack's declaration to Pulumi's resources and exports."""

from itertools import groupby
from typing import Any

from rackwright.declaration import Stack, declare
from stacks.gpu_host import GpuHost


def build(stack: Stack) -> dict[str, Any]:
    """Declare every resource of *stack*, one component per host; return what the stack exports."""
    hosts = {
        name: GpuHost(name, {"resources": list(declared)})
        for name, declared in groupby(declare(stack), key=lambda declared: declared.spec.host)
    }
    return {"mounts": {name: host.mounts for name, host in hosts.items()}}
