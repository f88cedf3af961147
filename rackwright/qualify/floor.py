"""The minimum figures of GPUs, from the catalogue."""

from collections.abc import Sequence
from dataclasses import dataclass

from rackwright.facts.gpu import GpuFacts
from rackwright.schema.catalogue import GPUS

ALL_REDUCE_GPUS = 8
"""Number of GPUs for which an all-reduce has a published floor, behind NVSwitch; other numbers and links have none."""
_BY_PCI = {id: gpu for gpu in GPUS.values() for id in gpu.pci}


@dataclass(frozen=True)
class Floor:
    """The minimum of a figure; None if none is published. A floor without a source is shown but not judged."""

    value: float | None = None
    source: str = ""


def gpu_floor(gpus: Sequence[GpuFacts], value: str) -> Floor:
    """Return the lowest floor *value* in the catalogue among *gpus*; an empty one unless each GPU has a floor.

    Raises:
        UnknownFact: the facts do not contain the models of the boards.
    """
    models = [_BY_PCI.get(gpu.pci_id) for gpu in gpus]
    floors = [(getattr(model, value), model.source(value)) for model in models if model and getattr(model, value)]
    if not floors or len(floors) < len(models):
        return Floor()
    least, source = min(floors)
    return Floor(least, source if all(each for _, each in floors) else "")


def peer_floor(gpus: Sequence[GpuFacts], value: str, has_nvswitch: bool) -> Floor:
    """Return the floor *value* for work between GPUs, which applies only behind NVSwitch."""
    return gpu_floor(gpus, value) if has_nvswitch else Floor()


def all_reduce_floor(gpus: Sequence[GpuFacts], has_nvswitch: bool) -> Floor:
    return peer_floor(gpus, "floor_all_reduce_gb_per_s", has_nvswitch) if len(gpus) == ALL_REDUCE_GPUS else Floor()
