"""Hosts written down from their facts: their declaration, the reported omissions, and a fleet that can be loaded."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from rackwright.errors import DeclarationError
from rackwright.facts.facts import Facts
from rackwright.fleet import edit_hosts
from rackwright.fleet.describe_host import HostDescription, describe_host, unique_name
from rackwright.fleet.load import load_fleet
from rackwright.schema.catalogue import GPUS
from tests.support import recorded_facts
from tests.support.our_roles import ROLES

LOGIN = {"name": "admin", "user": "admin", "agent": True}
THERE = """\
# ours
fleet: rack
hosts:
  gpu-02:  # the second
    address: 192.0.2.2
    identity: {serial: S-2}
    os: debian-12
    # nothing more

# the end"""


def raw(**mounted: Any) -> dict[str, Any]:
    """Return facts of a host with one array that is mounted as *mounted* says."""
    facts = recorded_facts.raw(recorded_facts.TODAY)
    facts["arrays"] = [each for each in facts["arrays"] if each["name"] == "md127"]
    for mount in facts["mounts"]:
        if mount["device"] == "md127":
            mount.update({"target": "/srv/hot", **mounted})
    return facts


def written(facts: dict[str, Any]) -> HostDescription:
    return describe_host(Facts(facts))


def at(address: str, found: HostDescription) -> HostDescription:
    return replace(found, host={"address": address, **found.host})


def loaded(text: str, folder: Path) -> Any:
    path = folder / "rack.yaml"
    path.write_text(text)
    return load_fleet(path, ROLES)


def test_a_host_is_written_down_and_the_fleet_has_it(tmp_path):
    found = written(raw())
    text = edit_hosts.add_hosts(tmp_path / "rack.yaml", False, [LOGIN], {found.name: at("192.0.2.1", found)})

    fleet = loaded(text, tmp_path)
    [(name, spec)] = fleet.hosts.items()
    assert (fleet.fleet, name, spec.os) == ("rack", "gpu-01", "debian-12")
    assert spec.identity.serial == "CHASSIS-F1"
    assert {drive.serial: (drive.bus, drive.tier, drive.boot) for drive in spec.drives} == {
        "F1-NVME0": ("nvme", "hot", False),
        "F1-NVME1": ("nvme", "hot", False),
        "F1-SAS0": ("sas", None, False),
        "F1-SAS1": ("sas", None, False),
        "F1-BOOT": ("virtio", None, True),
    }
    [(tier_name, tier)] = spec.tiers.items()
    assert (tier_name, tier.mount, tier.filesystem, tier.options) == ("hot", "/srv/hot", "ext4", ("noatime",))
    assert tier.array == "63fb9e01:bdf6580d:43bbb435:b92c57a8"
    assert [nic.mac for nic in spec.nics] == ["52:54:00:01:00:01", "52:54:00:01:00:02", "52:54:00:00:00:02"]
    assert all(f"# {note}\n" in text for note in found.notes)
    assert [drive.serial for drive in spec.drives if not drive.watched] == ["F1-SAS0", "F1-SAS1"]
    assert "the health of F1-SAS0 is not watched" in " ".join(found.notes)


def test_a_drive_that_waits_in_an_array_is_written_down_as_its_spare(tmp_path):
    facts = raw()
    [array] = facts["arrays"]
    array["members"].append({"name": "sdb", "slot": None, "state": ["spare"]})

    found = written(facts)
    [spec] = loaded(
        edit_hosts.add_hosts(tmp_path / "rack.yaml", False, [LOGIN], {found.name: at("192.0.2.1", found)}), tmp_path
    ).hosts.values()

    assert [drive.serial for drive in spec.members("hot")] == ["F1-NVME0", "F1-NVME1"]
    assert [drive.serial for drive in spec.spares("hot")] == ["F1-SAS1"]


def test_an_array_of_our_own_is_written_down_as_such():
    facts = raw(target="/srv/fast")
    facts["owners"] = {"tier-hot": {"id": "gpu-01/hot", "fleet": "rack", "phase": "ready", "serials": []}}

    assert written(facts).host["tiers"] == {"hot": {"level": "raid1", "filesystem": "ext4", "mount": "/srv/fast"}}
    facts["owners"]["tier-hot"]["id"] = "gpu-02/hot"
    assert "array" in written(facts).host["tiers"]["fast"]


@pytest.mark.parametrize("enabled", ["enabled", "generated", "disabled", None])
def test_what_will_not_be_mounted_at_boot_is_reported(enabled):
    facts = raw(target="/srv/fast")
    if enabled:
        facts["units"]["srv-fast.mount"] = {"load": "loaded", "active": "active", "enabled": enabled}

    notes = [note for note in written(facts).notes if "mounts /srv/fast at boot" in note]
    assert bool(notes) == (enabled not in ("enabled", "generated"))


@pytest.mark.parametrize(
    ("change", "note"),
    [
        ({"target": "/srv/with blank"}, "got '/srv/with blank'; a mount point has letters"),
        ({"target": "/"}, "got '/'; a mount point is an absolute"),
        ({"device": "md9"}, "it is not mounted as a whole"),
    ],
)
def test_what_cannot_be_declared_is_left_out_and_reported(change, note):
    found = written(raw(**change))

    assert "tiers" not in found.host
    assert not any("tier" in drive for drive in found.host["drives"])
    [notes] = [each for each in found.notes if "cannot be declared as a tier" in each]
    assert note in notes


@pytest.mark.parametrize(
    ("changes", "note"),
    [
        ({"level": "linear"}, "its level is linear"),
        ({"level": {"unknown": "it is empty"}}, "arrays[md127].level: it is empty"),
        ({"members": [{"name": "sdz9", "slot": 0, "state": ["in_sync"]}]}, "its member sdz9 is not a whole drive"),
    ],
)
def test_an_array_that_no_fleet_can_have_is_no_tier(changes, note):
    facts = raw()
    facts["arrays"][0].update(changes)

    found = written(facts)
    assert "tiers" not in found.host
    assert any(note in each for each in found.notes)


def test_an_encrypted_array_is_no_tier():
    facts = raw()
    facts["filesystems"] = []
    facts["luks_headers"] = [{"device": "md127", "uuid": "0"}]

    assert any(
        "it is encrypted, and rackwright cannot find out how it is opened" in note for note in written(facts).notes
    )


def test_options_are_those_of_the_declaration():
    assert written(raw(options=["rw", "relatime"])).host["tiers"]["hot"]["options"] == []
    assert written(raw(options=["rw", "noatime", "nodev", "inode64"])).host["tiers"]["hot"]["options"] == [
        "noatime",
        "nodev",
    ]


@pytest.mark.parametrize(
    ("gpus", "memory", "profile"),
    [
        ({"a100-80gb": 4}, 270 * 10**9, "training-a100"),
        ({"a100-80gb": 8}, 270 * 10**9, "training-a100"),
        ({"a100-80gb": 3}, 270 * 10**9, None),
        ({"a100-80gb": 4}, 100 * 10**9, None),
        ({"t4": 8}, 130 * 10**9, "inference-t4"),
    ],
)
def test_a_profile_is_taken_where_the_host_has_all_that_it_asks_for(gpus, memory, profile):
    facts = raw()
    facts["hardware"]["pci"] = [GPUS[model].pci[0] for model, count in gpus.items() for _ in range(count)]
    facts["hardware"]["memory_bytes"] = memory

    found = written(facts)
    assert found.host.get("profile") == profile
    assert any(f"{count} × {GPUS[model].name}" in note for note in found.notes for model, count in gpus.items())


def test_a_placeholder_is_no_identity():
    facts = raw()
    facts["identity"].update(serial=None, uuid="03000200-0400-0500-0006-000700080009", bmc_mac=None)
    assert written(facts).host["identity"] == {"uuid": "03000200-0400-0500-0006-000700080009"}
    facts["identity"].update(serial="Default string", uuid="00000000-0000-0000-0000-000000000000")

    found = written(facts)
    assert found.host["identity"] == {}
    assert "the host has no identity of its own: no serial, no uuid, no bmc_mac, no device_tree_serial" in found.notes


def test_what_stands_in_the_file_stays_letter_by_letter(tmp_path):
    path = tmp_path / "rack.yaml"
    path.write_text(THERE)
    text = edit_hosts.add_hosts(
        path, True, [], {"gpu-01": at("192.0.2.1", HostDescription("", written(raw()).host, ()))}
    )

    before, _, after = THERE.partition("    # nothing more")
    assert text.startswith(before + "  gpu-01:\n    address: 192.0.2.1\n")
    assert text.endswith("    # nothing more" + after)
    assert list(loaded(text, tmp_path).hosts) == ["gpu-02", "gpu-01"]


@pytest.mark.parametrize("last", ["    os: debian-12", "    os: debian-12\n", "    drives:\n      - {serial: A}\n"])
def test_a_file_may_end_as_it_likes(last, tmp_path):
    path = tmp_path / "rack.yaml"
    path.write_text(f"fleet: rack\nhosts:\n  gpu-02:\n    address: a\n    identity: {{serial: S-2}}\n{last}")
    text = edit_hosts.add_hosts(path, True, [], {"gpu-01": at("b", HostDescription("", {"os": "debian-12"}, ()))})

    assert text == f"{path.read_text().rstrip()}\n  gpu-01:\n    address: b\n    os: debian-12\n"


@pytest.mark.parametrize(
    ("there", "expected"),
    [
        (THERE, "hosts.gpu-02: the host gpu-02 is declared already"),
        ("fleet: rack\nhosts: {gpu-01: {address: a}}\n", "hosts: no host has lines here; a host in lines of its own"),
        ("fleet: rack\n", "no host has lines here; a host in lines"),
    ],
)
def test_a_file_that_has_no_place_for_it_is_left_alone(there, expected, tmp_path):
    path = tmp_path / "rack.yaml"
    path.write_text(there)

    with pytest.raises(DeclarationError, match=expected):
        edit_hosts.add_hosts(path, True, [], {"gpu-02": at("b", HostDescription("", {}, ()))})
    assert path.read_text() == there


DRIVES = """\
fleet: rack
hosts:
  gpu-01:
    drives:
      - {serial: "OLD", bus: nvme}  # in the third place
      - serial: 0042
"""


@pytest.mark.parametrize(
    ("old", "new", "line"),
    [
        ("OLD", "NEW", "      - {serial: NEW, bus: nvme}  # in the third place"),
        ("0042", "S 1", "      - serial: S 1"),
        ("OLD", "12345", "      - {serial: '12345', bus: nvme}  # in the third place"),
    ],
)
def test_another_drive_is_written_into_its_line(old, new, line, tmp_path):
    path = tmp_path / "rack.yaml"
    path.write_text(DRIVES.replace("0042", "'0042'"))
    text = edit_hosts.replace_drive(path, "gpu-01", old, new)

    assert line in text.splitlines()
    both = zip(text.splitlines(), path.read_text().splitlines(), strict=True)
    assert sum(now != before for now, before in both) == 1


@pytest.mark.parametrize(
    ("host", "old", "new", "expected"),
    [
        ("gpu-01", "ODL", "NEW", "hosts.gpu-01.drives: host gpu-01 declares no drive ODL; one of OLD, 0042. Write OLD"),
        (
            "gpu-01",
            "OLD",
            "0042",
            "the new drive 0042 is declared already; a drive without a line of its own. Move `tier` from",
        ),
        ("gpu-02", "OLD", "NEW", "host gpu-02 declares no drive OLD. Correct the serial"),
    ],
)
def test_a_drive_that_has_no_line_or_another_one_is_reported(host, old, new, expected, tmp_path):
    path = tmp_path / "rack.yaml"
    path.write_text(DRIVES.replace("0042", "'0042'"))

    with pytest.raises(DeclarationError) as errors:
        edit_hosts.replace_drive(path, host, old, new)
    assert expected in str(errors.value)


def test_a_fleet_that_uses_the_hosts_of_another_has_no_line_of_a_drive(tmp_path):
    path = tmp_path / "serving.yaml"
    path.write_text("fleet: serving\nuses: rack.yaml\n")

    with pytest.raises(DeclarationError) as errors:
        edit_hosts.replace_drive(path, "gpu-01", "OLD", "NEW")
    [error] = errors.value.diagnostics
    assert (error.where, error.problem) == (f"{path}:2: uses", "the fleet uses the hosts of rack.yaml")
    assert error.help == "Name a stack whose fleet is rack.yaml"


def test_errors_are_those_of_the_file_that_it_will_be(tmp_path):
    path = tmp_path / "rack.yaml"
    with pytest.raises(DeclarationError) as errors:
        load_fleet(path, ROLES, text="fleet: rack\nhosts:\n  gpu-01:\n    os: plan-9\n")

    assert all(str(error).startswith(f"{path}:") for error in errors.value.diagnostics)
    assert not path.exists()


def test_names_are_given_once():
    assert unique_name("gpu", {}) == "gpu"
    assert unique_name("gpu", {"gpu", "gpu-2"}) == "gpu-3"
