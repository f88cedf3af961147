"""Whether the instances that a GPU is to be divided into find room on it."""

from collections import Counter
from collections.abc import Sequence

from rackwright.schema.catalogue import Mig


def why_not(names: Sequence[str], table: Mig) -> str:
    """Return what forbids the instances *names* beside each other, all of them profiles of *table*; empty: nothing.

    An instance cannot begin at every slice; but where slices and counts suffice, there is an order in which all find
    room. That was tried for every layout of the tables that the catalogue has.
    """
    for name, count in Counter(names).items():
        if count > (most := table.profiles[name].count):
            return f"{name} fits {most} times" if most > 1 else f"{name} fits once"
    if (compute := sum(table.profiles[name].compute for name in names)) > table.compute_slices:
        return f"it has {table.compute_slices} compute slices, and they take {compute}"
    if (memory := sum(table.profiles[name].memory for name in names)) > table.memory_slices:
        return f"it has {table.memory_slices} memory slices, and they take {memory}"
    return ""
