"""Which GPUs NVIDIA's driver and its library tell of."""

from rackwright.schema.catalogue import GPUS, PROFILES


def gpus(profile: str) -> tuple[str, ...]:
    """Return the models of NVIDIA's PCI boards that a host of *profile* has, each as often as it has them."""
    return tuple(
        model
        for model, count in PROFILES[profile].gpus.items()
        for _ in range(count)
        if GPUS[model].role == "nvidia_driver"
    )
