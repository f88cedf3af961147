"""The least that GPUs of a model have to show, by the catalogue."""

from collections.abc import Sequence
from dataclasses import dataclass

from rackwright.facts.gpu import Gpu
from rackwright.schema.catalogue import GPUS

ALL_REDUCE_GPUS = 8
"""The floor of an all-reduce is for so many behind NVSwitch; of fewer, or joined otherwise, nobody is known to say."""
_BY_PCI = {id: gpu for gpu in GPUS.values() for id in gpu.pci}


@dataclass(frozen=True)
class Floor:
    """The least of one figure; None where nobody says. Without a source it is told, and judges nothing."""

    value: float | None = None
    source: str = ""


def of(gpus: Sequence[Gpu], value: str) -> Floor:
    """Return the floor *value* of the catalogue for *gpus*: that of the one with the least, if all have one.

    Raises:
        UnknownFact: the facts do not tell which boards they are.
    """
    models = [_BY_PCI.get(gpu.pci_id) for gpu in gpus]
    known = [(getattr(model, value), model.source(value)) for model in models if model and getattr(model, value)]
    if not known or len(known) < len(models):
        return Floor()
    least, source = min(known)
    return Floor(least, source if all(said for _, said in known) else "")


def of_peers(gpus: Sequence[Gpu], value: str, switched: bool) -> Floor:
    """Return the floor of what several do together, which holds behind NVSwitch alone."""
    return of(gpus, value) if switched else Floor()


def of_all_reduce(gpus: Sequence[Gpu], switched: bool) -> Floor:
    return of_peers(gpus, "floor_all_reduce_gb_per_s", switched) if len(gpus) == ALL_REDUCE_GPUS else Floor()
