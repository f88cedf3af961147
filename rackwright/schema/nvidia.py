"""The GPUs of a profile that NVIDIA's driver and library report."""

from rackwright.schema.catalogue import GPUS
from rackwright.schema.profile import Minimum


def gpus(profile: Minimum) -> tuple[str, ...]:
    """Return the model of each NVIDIA PCI board in a host of *profile*, one item for each board."""
    return tuple(
        model for model, count in profile.gpus.items() for _ in range(count) if GPUS[model].role == "nvidia_driver"
    )
