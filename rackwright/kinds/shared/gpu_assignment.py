"""The GPUs that a run or a server has on a host, noted by UUID in a file on the host.

Indices follow the PCI bus and change with the hardware. So the file has the UUIDs that the indices had when it was
written, and the processes get those. A GPU with another UUID at an index is a difference.
"""

import json
from collections.abc import Container, Iterator, Sequence
from typing import Protocol

from rackwright.core.contract import Absent, Claim, Put, Remove, Scope, SpecPart, Step, Value
from rackwright.errors import Diagnostic
from rackwright.facts.facts import Facts
from rackwright.facts.gpu import GpuAssignmentFacts
from rackwright.kinds.shared.service_account import Service

ASSIGNMENTS = "/etc/rackwright/gpus"
_CHANGED = (
    "if a GPU was replaced or moved on purpose, run `rackwright up`, which assigns the GPUs that are there now; else"
    " put it back"
)
_UUID_CHANGED = (
    "put the GPU back, or declare the UUID of another GPU; `rackwright gpu top STACK --json` prints all UUIDs"
)
_SHARED = "declare other GPUs for one of them"


class GpuService(Service, Protocol):
    """A run or a server with GPUs."""

    @property
    def not_rehearsable(self) -> tuple[Scope, ...]: ...


class GpuAssignment(SpecPart):
    """The GPUs of a host that a run or a server has."""

    gpus: tuple[str, ...]
    """The declared GPUs: indices in the order of the PCI bus, or UUIDs."""
    has_uuids: bool
    """Whether the driver reports UUIDs, which is so for NVIDIA's GPUs."""

    @property
    def by_uuid(self) -> bool:
        """Whether the GPUs are declared by UUID."""
        return not self.gpus[0].isdigit()


def path(owner: str) -> str:
    """Return the path of the file with the GPUs of *owner*, ``run-NAME`` or ``server-NAME``."""
    return f"{ASSIGNMENTS}/{owner}.json"


def claims(owner: str, assignment: GpuAssignment | None) -> Iterator[Claim]:
    """Yield the claims that *owner* has the GPUs of *assignment*, that they are the same boards, and no others'."""
    thing = f"gpu_assignment:{owner}"
    if assignment is None:
        yield Claim(thing, {"present": False})
        return
    yield Claim(f"file:{path(owner)}", {"mode": "0644", "owner": "root:root"})
    yield Claim(thing, {"gpus": assignment.gpus, "shared_with": ()}, remedies={"shared_with": _SHARED})
    if assignment.has_uuids:
        remedy = _UUID_CHANGED if assignment.by_uuid else _CHANGED
        yield Claim(thing, {"changed": ()}, scope="hardware", remedy=remedy)


def observe(facts: Facts, owner: str, name: str) -> Value:
    """Return a property of the assignment of *owner*: present, gpus, shared_with or changed."""
    noted = facts.gpu_assignment(owner)
    if name == "present":
        return noted is not None
    if noted is None:
        return Absent()
    match name:
        case "gpus":
            return noted.gpus
        case "shared_with":
            return tuple(each for each in facts.gpu_owners if each != owner and _share(facts, each, noted))
        case _:
            return tuple(_changes(facts, noted))


def _share(facts: Facts, other: str, noted: GpuAssignmentFacts) -> bool:
    theirs = facts.gpu_assignment(other)
    return theirs is not None and _overlap(theirs, noted.gpus, noted.uuids)


def _overlap(noted: GpuAssignmentFacts, gpus: Sequence[str], uuids: Sequence[str]) -> bool:
    """Return whether *noted* has one of *uuids*; where UUIDs are not known, one of *gpus*."""
    both_known = bool(noted.uuids) and bool(uuids)
    return bool({*noted.uuids} & {*uuids}) if both_known else bool({*noted.gpus} & {*gpus})


def _changes(facts: Facts, noted: GpuAssignmentFacts) -> Iterator[str]:
    """Yield a text for each noted GPU that is gone, or that is another one now."""
    present = {str(gpu.index): gpu.uuid for gpu in facts.gpus}
    if len(noted.uuids) != len(noted.gpus):
        yield "no UUIDs are noted"
        return
    for gpu, uuid in zip(noted.gpus, noted.uuids, strict=True):
        found = present.get(gpu) if gpu.isdigit() else (uuid if uuid in present.values() else None)
        if found != uuid:
            yield f"{gpu}: {found or 'no GPU'} instead of {uuid}" if gpu.isdigit() else f"{uuid}: not on the host"


def refusals(service: GpuService, assignment: GpuAssignment | None, facts: Facts) -> Iterator[Diagnostic]:
    """Yield a refusal for each GPU that is not on the host, and for each run or server of another fleet with it."""
    if assignment is None:
        return
    uuids = _uuids(service, assignment, facts) or {}
    for gpu in (gpu for gpu, uuid in uuids.items() if uuid is None):
        listed = ", ".join(f"{each.index} ({each.uuid})" for each in facts.gpus) or "none"
        help = "Put the GPU back, or declare another one"
        yield Diagnostic(f"{service.id}: GPU {gpu}", "the host has no such GPU", f"one of its GPUs: {listed}", help)
    known = [uuid for uuid in uuids.values() if uuid is not None]
    for other in facts.gpu_owners:
        noted = facts.gpu_assignment(other)
        if other == service.owner or noted is None or noted.fleet == service.fleet:
            continue
        if _overlap(noted, assignment.gpus, known):
            problem = f"{other} of the fleet {noted.fleet} has {', '.join(noted.gpus)} of {service.host}"
            help = "Declare other GPUs for one of the two; change that fleet first"
            yield Diagnostic(f"{service.id}: GPUs", problem, "a GPU has one run or server", help)


def differs(service: GpuService, different: Container[str]) -> bool:
    """Return whether the file of *service* differs, by the things that are *different*."""
    return f"gpu_assignment:{service.owner}" in different or f"file:{path(service.owner)}" in different


def steps(service: GpuService, assignment: GpuAssignment | None, facts: Facts) -> Iterator[Step]:
    """Yield the step that notes the GPUs of *service*, by their present UUIDs if the driver reports them."""
    if assignment is None:
        yield Remove(f"take back the GPUs of {service.owner}", path(service.owner))
        return
    noted = [uuid for uuid in (_uuids(service, assignment, facts) or {}).values() if uuid is not None]
    content = {"fleet": service.fleet, "gpus": assignment.gpus, "uuids": noted}
    text = f"assign to {service.owner}: {', '.join(noted) or 'GPUs ' + ', '.join(assignment.gpus)}"
    yield Put(text, path(service.owner), json.dumps(content, indent=1, sort_keys=True) + "\n", 0o644)


def removal(service: GpuService, assignment: GpuAssignment | None) -> Iterator[Step]:
    """Yield the step that takes back the GPUs of a removed *service*."""
    if assignment is not None:
        yield Remove(f"take back the GPUs of {service.owner}", path(service.owner))


def _uuids(service: GpuService, assignment: GpuAssignment, facts: Facts) -> dict[str, str | None] | None:
    """Return the UUID of each assigned GPU, None for one that is not there; None if no driver reports UUIDs."""
    if not assignment.has_uuids or "hardware" in service.not_rehearsable:
        return None
    present = {str(gpu.index): gpu.uuid for gpu in facts.gpus}
    if assignment.by_uuid:
        return {gpu: gpu if gpu in present.values() else None for gpu in assignment.gpus}
    return {gpu: present.get(gpu) for gpu in assignment.gpus}
