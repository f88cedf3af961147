"""What a preview costs: the real pulumi, program and provider over simulated hosts, in processor time."""

import resource

FLOOR_MS, AIM_MS = 60, 40
"""Of processor time, all processes together, for each host with three resources."""


def children_seconds() -> float:
    """Return the processor seconds, user and system, of all processes that have ended below this one."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
