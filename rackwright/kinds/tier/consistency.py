"""The consistency of a tier after a power cut: a bitmap, a partial parity log, or a resync of the whole array."""

from collections.abc import Iterator

from rackwright.core.contract import Command
from rackwright.facts.storage import Array
from rackwright.kinds.tier.spec import TierSpec


def option(spec: TierSpec) -> str:
    """Return the option for mdadm when it makes the array."""
    return "--consistency-policy=ppl" if spec.declared.ppl else f"--bitmap={_bitmap(spec)}"


def steps(spec: TierSpec, array: Array) -> Iterator[Command]:
    """Yield the steps that give a running array the declared one: the old one goes first."""
    grow = ("mdadm", "--grow", spec.device)
    has_ppl = spec.level == "raid5" and array.ppl
    if has_ppl and not spec.declared.ppl:
        yield Command(f"give up the partial parity log of {spec.name}", (*grow, "--consistency-policy=resync"))
    if array.bitmap != (bitmap := _bitmap(spec)):
        yield Command(f"set the bitmap of {spec.name} to {bitmap}", (*grow, f"--bitmap={bitmap}"))
    if spec.declared.ppl and not has_ppl:
        yield Command(f"keep a partial parity log of {spec.name}", (*grow, "--consistency-policy=ppl"))


def notes(spec: TierSpec) -> Iterator[str]:
    """Yield notes about the losses that a power cut can still cause. Source: md(4), PARTIAL PARITY LOG."""
    if spec.level in ("raid5", "raid6") and not spec.declared.ppl:
        remedy = "; `ppl: true` closes it" if spec.level == "raid5" else ""
        yield (
            f"{spec.name}: after a power cut while a member is missing, md starts {spec.level} by force alone, and"
            f" data in stripes that were being written may be lost (the write hole){remedy}"
        )


def _bitmap(spec: TierSpec) -> str:
    return "internal" if spec.declared.has_bitmap else "none"
