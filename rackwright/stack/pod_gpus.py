"""The GPUs of a host that pods of Kubernetes get: those of role device_plugin."""

from collections.abc import Iterator

from rackwright.errors import Diagnostic
from rackwright.schema.host import Host
from rackwright.stack.stack import Stack

DEVICE_PLUGIN = "device_plugin"
"""The role that gives GPUs to pods."""


def gpus_of_pods(host: Host) -> tuple[int, ...]:
    """Return the indices of the GPUs that pods on *host* get."""
    if DEVICE_PLUGIN not in host.roles:
        return ()
    declared = host.roles[DEVICE_PLUGIN].get("gpus")
    total = sum(host.minimum.gpus.values())
    return tuple(range(total)) if declared is None else tuple(declared)


def plugin_problems(stack: Stack) -> Iterator[Diagnostic]:
    """Yield an error for each GPU of pods that a host does not have."""
    for name, host in stack.fleet.hosts.items():
        total = sum(host.minimum.gpus.values())
        for gpu in gpus_of_pods(host):
            if total and gpu >= total:
                where, help = f"hosts.{name}.roles.{DEVICE_PLUGIN}.gpus", "Correct the index; the first GPU has 0"
                yield Diagnostic(where, f"got GPU {gpu}", f"the last of {total} GPUs has the index {total - 1}", help)
            elif host.accelerators.mig and DEVICE_PLUGIN in host.roles and "gpus" in host.roles[DEVICE_PLUGIN]:
                where, help = f"hosts.{name}.roles.{DEVICE_PLUGIN}.gpus", "Leave gpus out"
                expected = "MIG divides the GPUs of this host, and pods get all instances"
                yield Diagnostic(where, "got GPUs by index", expected, help)
                break
