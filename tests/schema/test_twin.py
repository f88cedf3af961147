"""The fleet of a twin: sizes of drives, and tiers of containers."""

import copy
from typing import Any

from rackwright.schema.fleet import Fleet
from rackwright.schema.twin import roles_of_vendors, twin_of

HOT = {"level": "raid1", "filesystem": "xfs", "mount": "/srv/hot", "encryption": {"key": {"secret": "hot_key"}}}
FLEET: dict[str, Any] = {
    "fleet": "two",
    "hosts": {
        name: {
            "address": f"192.0.2.{number}",
            "identity": {"serial": f"S{number}"},
            "os": "debian-12",
            "tiers": {"hot": HOT},
            "drives": [
                {"serial": f"{name}-BOOT", "boot": True},
                *({"serial": f"{name}-{i}", "bus": "nvme", "size": "8TB", "tier": "hot"} for i in range(2)),
            ],
            "wipe": {f"{name}-0": "ext4"},
        }
        for number, name in enumerate(("box", "vm"), start=1)
    },
}


def test_a_tier_of_a_container_is_a_directory_and_the_other_host_keeps_its_drives() -> None:
    fleet, notices = twin_of(Fleet.model_validate(FLEET), {"box"})
    box, machine = fleet.hosts["box"], fleet.hosts["vm"]
    assert box.tiers["hot"].provided and box.tiers["hot"].mount == "/srv/hot"
    assert not box.tiers["hot"].level and not box.tiers["hot"].encryption and not box.drives and not box.wipe
    assert machine.tiers["hot"].level == "raid1" and len(machine.drives) == 3
    assert notices[0].startswith("on the twin every data drive has 512MB")
    assert notices[-1] == "tiers of containers are directories: their arrays, encryption and drives are not rehearsed"


def test_a_twin_of_containers_has_no_notice_about_drives() -> None:
    _, notices = twin_of(Fleet.model_validate(FLEET), {"box", "vm"})
    assert [each for each in notices if "512MB" in each] == []


def test_roles_with_packages_of_their_vendor_are_left_out_and_named() -> None:
    with_vendor = {"nvidia_driver": {"source": "vendor"}, "cuda": {"versions": ["11.8"]}, "base": {}}
    content = copy.deepcopy(FLEET)
    content["hosts"]["box"]["roles"] = with_vendor
    fleet, notices = twin_of(Fleet.model_validate(content), {"box"})
    assert [*roles_of_vendors(fleet.hosts["box"])] == ["nvidia_driver"]
    assert [*roles_of_vendors(fleet.hosts["vm"])] == []
    assert notices[-1].startswith("left out: box/nvidia_driver; the twin reaches no vendor's repository")
