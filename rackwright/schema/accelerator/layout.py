"""The check that MIG instances fit on a GPU together."""

from collections import Counter
from collections.abc import Sequence

from rackwright.schema.catalogue import Mig


def explain_misfit(names: Sequence[str], table: Mig) -> str:
    """Return why the instances *names*, all profiles of *table*, do not fit on one GPU together; empty if they fit.

    An instance cannot begin at every slice, but if slices and counts suffice, there is an order in which all instances
    fit. This was verified for all layouts of the catalogue's tables.
    """
    for name, count in Counter(names).items():
        if count > (most := table.profiles[name].count):
            return f"{name} fits {most} times" if most > 1 else f"{name} fits once"
    if (compute := sum(table.profiles[name].compute for name in names)) > table.compute_slices:
        return f"it has {table.compute_slices} compute slices, and they take {compute}"
    if (memory := sum(table.profiles[name].memory for name in names)) > table.memory_slices:
        return f"it has {table.memory_slices} memory slices, and they take {memory}"
    return ""
