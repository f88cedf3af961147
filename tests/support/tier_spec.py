"""Specs of tiers with another declaration."""

from collections.abc import Iterable
from typing import Any

from rackwright.kinds.tier.spec import TierSpec
from rackwright.schema.host import Drive
from rackwright.schema.tier import Encryption
from rackwright.schema.units import Size
from tests.support import specs


def changed(spec: TierSpec, **changes: Any) -> TierSpec:
    """Return *spec* with *changes* of its fields or of the tier's; ``key``, ``tpm2`` and ``*_kib`` are as it has them.

    Nothing checks the new declaration, as in `specs.changed`.
    """
    if changes.keys() & {"key", "tpm2"}:
        key, tpm2 = changes.pop("key", spec.declared.key), changes.pop("tpm2", spec.declared.tpm2)
        changes["encryption"] = Encryption(key={"secret": key}, tpm2=tpm2) if key else None
    for name in ("chunk", "sync_speed_max"):
        if (kib := changes.pop(f"{name}_kib", None)) is not None:
            changes[name] = Size(f"{kib}KiB") if kib else None
    return specs.changed(spec, **changes)


def of_size(drives: Iterable[Drive], size_bytes: int) -> tuple[Drive, ...]:
    """Return *drives* with another size."""
    return tuple(drive.model_copy(update={"size": Size(f"{size_bytes}B")}) for drive in drives)


def unwatched(drives: Iterable[Drive]) -> tuple[Drive, ...]:
    return tuple(drive.model_copy(update={"watched": False}) for drive in drives)
