"""A host: what its profile asks for is looked for only where the catalogue knows how to tell it."""

from typing import Any

import pytest

from rackwright.facts.facts import Facts
from rackwright.kinds.contract import Unknown
from rackwright.kinds.host import HostKind, HostSpec
from rackwright.kinds.house import House
from tests.kinds.conftest import recorded

KIND = HostKind()


def spec(profile: str) -> HostSpec:
    identity = {"serial": "CHASSIS-1"}
    return HostSpec(host="gpu-01", not_rehearsable=(), identity=identity, os="debian-12", profile=profile)


def claimed(profile: str, house: House) -> dict[str, Any]:
    return {claim.thing: dict(claim.want) for claim in KIND.claims(spec(profile), house)}


@pytest.mark.parametrize(("profile", "model"), [("edge-orin", "orin"), ("edge-atlas500", "atlas-500")])
def test_a_device_without_a_known_pci_id_is_unknown_and_not_gone(profile: str, model: str, house: House) -> None:
    claims = [claim for claim in KIND.claims(spec(profile), house) if claim.thing == "gpus:gpu-01"]
    found = KIND.observe(claims, Facts(recorded("gpu-01")))
    assert isinstance(found["gpus:gpu-01"][model], Unknown)


def test_memory_that_nobody_vouches_for_is_not_asked_for(house: House) -> None:
    assert "memory:gpu-01" in claimed("training-a40", house)
    assert "memory:gpu-01" not in claimed("inference-rtx3090", house)
    assert "gpus:gpu-01" in claimed("inference-rtx3090", house)
