"""Objects of Kubernetes, and numbers as they have them."""

from typing import Any

Object = dict[str, Any]
GPU = "nvidia.com/gpu"
"""Resource that a device plugin counts."""
GPUS = (GPU, "amd.com/gpu", "habana.ai/gaudi")
"""Resources of accelerators that role device_plugin offers."""
STORAGE = "ephemeral-storage"
RESOURCES = ("cpu", "memory", STORAGE, *GPUS)
"""Resources that the quota of a team limits. Pods of its people ask for no others."""


def quantity(number: int) -> str:
    """Return *number* as Kubernetes writes it, with the largest unit of which it is a multiple.

    Source: Kubernetes, apimachinery, "Quantity", canonical form.
    """
    base, units = (1024, ("", "Ki", "Mi", "Gi", "Ti", "Pi")) if number and number % 1024 == 0 else (1000, "_kMGTP")
    power = 0
    while number and number % base == 0 and power < len(units) - 1:
        number, power = number // base, power + 1
    return f"{number}{units[power].strip('_')}"
