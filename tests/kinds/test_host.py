"""A host: what its profile asks for is looked for only where the catalogue knows how to tell it."""

from typing import Any

import pytest

from rackwright.core.contract import UnknownValue
from rackwright.core.repository import Repository
from rackwright.facts.facts import Facts
from rackwright.kinds.host import HostKind, HostSpec
from rackwright.kinds.shared.drives import health_claims
from rackwright.schema.health import ANY, Health
from rackwright.schema.host import Drive
from tests.support.recorded_hosts import recorded

KIND = HostKind()


def spec(profile: str) -> HostSpec:
    identity = {"serial": "CHASSIS-1"}
    return HostSpec(host="gpu-01", not_rehearsable=(), identity=identity, os="debian-12", profile=profile)


def claimed(profile: str, repository: Repository) -> dict[str, Any]:
    return {claim.thing: dict(claim.want) for claim in KIND.claims(spec(profile), repository)}


@pytest.mark.parametrize(("profile", "model"), [("edge-orin", "orin"), ("edge-atlas500", "atlas-500")])
def test_a_device_without_a_known_pci_id_is_unknown_and_not_gone(
    profile: str, model: str, repository: Repository
) -> None:
    claims = [claim for claim in KIND.claims(spec(profile), repository) if claim.thing == "gpus:gpu-01"]
    found = KIND.observe(claims, Facts(recorded("gpu-01")))
    assert isinstance(found["gpus:gpu-01"][model], UnknownValue)


def test_memory_that_was_not_measured_is_not_requested(repository: Repository) -> None:
    assert "memory:gpu-01" in claimed("training-a40", repository)
    assert "memory:gpu-01" not in claimed("inference-rtx3090", repository)
    assert "gpus:gpu-01" in claimed("inference-rtx3090", repository)


@pytest.mark.parametrize(
    ("bus", "wanted", "scope"),
    [
        ("nvme", {"health", "media_errors", "wear_percent"}, "kernel"),
        ("sas", {"health", "media_errors", "wear_percent"}, "hardware"),
        ("sata", {"health", "pending_sectors", "media_errors", "wear_percent"}, "hardware"),
        (None, {"health"}, "hardware"),
        ("virtio", set(), None),
    ],
)
def test_a_drive_is_asked_for_what_its_bus_counts(bus: str | None, wanted: set[str], scope: str | None) -> None:
    """
    A twin's NVMe has a log of its health; its SAS drives have none, and are counted as not rehearsable.
    """
    limits = Health()
    claims = [*health_claims("gpu-01", [Drive(serial="S1", bus=bus)], limits)]
    assert {name for claim in claims for name in claim.want} == wanted
    assert {claim.scope for claim in claims} <= {scope}


def test_what_a_drive_does_not_count_is_unknown_and_not_fine() -> None:
    limits = Health(media_errors=ANY, wear_percent=ANY)
    health = {"passed": True, "pending_sectors": None, "media_errors": 0, "wear_percent": 0}
    raw = {"drives": [{"name": "sda", "serial": "S1", "health": health}]}
    found = KIND.observe([*health_claims("gpu-01", [Drive(serial="S1", bus="sata")], limits)], Facts(raw))
    assert found["drive:S1"] == {"health": "passed", "pending_sectors": UnknownValue("the drive does not count that")}
