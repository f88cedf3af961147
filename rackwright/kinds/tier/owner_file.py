"""The owner file of a tier: whose it is, how far its making or removal has come, and its members."""

import json
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from rackwright.core.contract import Put
from rackwright.kinds.tier.inputs import PlanInputs
from rackwright.kinds.tier.spec import TierSpec


def owner_text(spec: TierSpec, phase: str, luks: str | None = None, former: Collection[str] = (), **more: Any) -> str:
    """Return the content of the owner file.

    Args:
        luks: The UUID of the LUKS header, as soon as there is one.
        former: Serials of drives that were members once, and are declared no more.
    """
    content = {"id": spec.id, "fleet": spec.fleet, "phase": phase, "serials": sorted(spec.serials), **more}
    if luks:
        content["luks"] = luks
    if former:
        content["former"] = sorted(former)
    return json.dumps(content, sort_keys=True) + "\n"


def creation_is_unfinished(owner: Mapping[str, Any]) -> bool:
    """Return whether the owner file notes a creation that ended before the filesystem was made."""
    return owner.get("phase") == "creating" and not owner.get("formatted")


def former_members(spec: TierSpec, owner: Mapping[str, Any]) -> frozenset[str]:
    """Return the serials that the owner file names, and that are declared no more."""
    if creation_is_unfinished(owner):
        return frozenset()
    return frozenset((*owner.get("former", ()), *owner.get("serials", ()))) - {*spec.serials}


def note_creation(spec: TierSpec) -> Put:
    """Return the step before the first change of a drive."""
    return _put(spec, "creating", owner_text(spec, "creating"))


def note_filesystem(spec: TierSpec) -> Put:
    """Return the step after the filesystem is made: from then on it may bear data."""
    return _put(spec, "creating and formatted", owner_text(spec, "creating", spec.header_reference, formatted=True))


def note_created(spec: TierSpec) -> Put:
    return _put(spec, "ready", owner_text(spec, "ready", spec.header_reference))


def note_change(inputs: PlanInputs, phase: str, members: Collection[str]) -> Put:
    """Return the step before the array gets other members.

    Args:
        members: Serials of the members before that.
    """
    spec, luks, former = _lasting_fields(inputs)
    return _put(spec, phase, owner_text(spec, phase, luks, former, serials=sorted(members)))


def note_ready(inputs: PlanInputs) -> Put:
    """Return the step that notes the declared members."""
    spec, luks, former = _lasting_fields(inputs)
    return _put(spec, "ready", owner_text(spec, "ready", luks, former))


def repair_steps(inputs: PlanInputs) -> Iterator[Put]:
    """Yield the step that writes the owner file again where it differs."""
    if inputs.differs("owner"):
        yield note_ready(inputs)


def _lasting_fields(inputs: PlanInputs) -> tuple[TierSpec, str | None, frozenset[str]]:
    spec, owner = inputs.spec, inputs.owner
    return spec, owner.get("luks", spec.header_reference), former_members(spec, owner)


def _put(spec: TierSpec, phase: str, text: str) -> Put:
    return Put(f"note in the owner file: {phase}", spec.owner_file, text, 0o600)
