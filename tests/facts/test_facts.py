"""Typed facts: what was not read is never mistaken for what is not there."""

from collections.abc import Mapping
from typing import Any, TypeVar

import pytest

from rackwright.facts import facts as module
from rackwright.facts.facts import Fact, Facts, NotKnown, Superblock, View
from tests.facts import situations


def unknown(reason: str) -> dict[str, str]:
    return {"unknown": reason}


def views(facts: Facts) -> list[View]:
    """Return every view that *facts* can give, once each."""
    found: list[View] = [facts, facts.identity, *facts.filesystems, *facts.mounts, *facts.links]
    for drive in facts.drives:
        found += [drive, *drive.signatures, *([drive.superblock] if drive.superblock else [])]
    for array in facts.arrays:
        found += [array, *array.members]
    found += [there(facts.unit(name)) for name in facts.read("units")]
    found += [there(facts.file(path)) for path in facts.read("files")]
    return found


T = TypeVar("T")


def there(found: T | None) -> T:
    assert found is not None
    return found


def values(view: View) -> dict[str, Any]:
    return {name: fact for name, fact in vars(type(view)).items() if isinstance(fact, Fact)}


@pytest.mark.parametrize("situation", situations.SITUATIONS)
def test_the_probe_writes_all_that_is_read(situation):
    """
    A value may be unknown for a reason of the host's, but no place is missing.
    """
    for view in views(situations.facts(situation)):
        for name in values(view):
            try:
                getattr(view, name)
            except NotKnown as reason:
                assert "the facts have no" not in str(reason)


def test_every_view_is_covered_by_the_test_above():
    covered = {type(view) for view in views(situations.facts("two-tiers"))}

    assert covered == {
        found for found in vars(module).values() if isinstance(found, type) and issubclass(found, View)
    } - {View}


def test_the_rest_is_read_too():
    facts = situations.facts("two-tiers")

    assert facts.os == "debian-12"
    assert facts.memory_bytes > 500e6
    assert "1b36:0010" in facts.pci
    assert facts.packages["mdadm"]
    assert there(facts.text("/etc/mdadm/mdadm.conf")).startswith("# mdadm.conf")
    assert facts.text("/etc/mdadm/mdadm.conf.d/none.conf") is None
    assert facts.owner("none") is None
    assert list(facts.initramfs_times()) == []


READERS = {
    "drives": lambda facts: facts.drives,
    "arrays": lambda facts: facts.arrays,
    "filesystems": lambda facts: facts.filesystems,
    "mounts": lambda facts: facts.mounts,
    "links": lambda facts: facts.links,
    "identity": lambda facts: facts.identity,
    "packages": lambda facts: facts.packages,
    "units": lambda facts: facts.unit("ssh.service"),
    "files": lambda facts: facts.file("/etc/passwd"),
    "texts": lambda facts: facts.text("/etc/mdadm/mdadm.conf"),
    "owners": lambda facts: facts.owner("tier-hot"),
    "initramfs": lambda facts: list(facts.initramfs_times()),
    "os": lambda facts: facts.os,
    "hardware": lambda facts: (facts.pci, facts.memory_bytes),
    "taken_at": lambda facts: facts.taken_at,
}


@pytest.mark.parametrize("key", READERS)
def test_a_section_that_is_unknown_or_missing_is_never_empty(key):
    raw = situations.raw("two-tiers")
    READERS[key](Facts(raw))

    with pytest.raises(NotKnown, match="the tool is gone"):
        READERS[key](Facts({**raw, key: unknown("the tool is gone")}))
    del raw[key]
    with pytest.raises(NotKnown, match=f"the facts have no .*{key}"):
        READERS[key](Facts(raw))


def test_one_unknown_serial_hides_no_other_drive():
    raw = situations.raw("blank")
    raw["drives"][0]["serial"] = unknown("no page 80")
    facts = Facts(raw)

    assert there(facts.drive("RW01-SAS3")).name == "sdd"
    with pytest.raises(NotKnown, match="no page 80"):
        facts.drive("RW01-NVME0")


def test_a_serial_that_no_drive_has_is_absent():
    assert situations.facts("blank").drive("RW01-NVME9") is None


@pytest.mark.parametrize(
    ("read", "place"),
    [
        (lambda facts: facts.file("/etc/passwd").digest, ("files", "/etc/passwd")),
        (lambda facts: facts.unit("ssh.service").load, ("units", "ssh.service")),
        (lambda facts: facts.text("/etc/mdadm/mdadm.conf"), ("texts", "/etc/mdadm/mdadm.conf")),
        (lambda facts: facts.owner("tier-hot"), ("owners", "tier-hot")),
    ],
    ids=["file", "unit", "text", "owner"],
)
def test_one_unknown_entry_is_told_from_none(read, place):
    raw = situations.raw("two-tiers")
    raw[place[0]][place[1]] = unknown("the medium is bad")

    with pytest.raises(NotKnown, match=f"{place[1]}.*the medium is bad"):
        read(Facts(raw))


def test_outside_the_probe_s_roots_no_file_is_absent():
    facts = situations.facts("two-tiers")

    assert facts.file("/etc/not/there") is None
    for path in ("/root/x", "/etcetera", "/opt/other/x"):
        with pytest.raises(NotKnown, match="does not look at"):
            facts.file(path)
    with pytest.raises(NotKnown, match="does not bring the text"):
        facts.text("/etc/passwd")


def test_below_a_closed_folder_and_behind_a_link_no_file_is_absent():
    raw = situations.raw("two-tiers")
    raw["files"]["/etc/closed"] = unknown("Permission denied")
    raw["files"]["/etc/elsewhere"] = {"digest": "-> /srv", "mode": "0777", "owner": "root:root", "mtime_ns": 1}
    facts = Facts(raw)

    with pytest.raises(NotKnown, match="Permission denied"):
        facts.file("/etc/closed/in/file")
    with pytest.raises(NotKnown, match="/etc/elsewhere, which is a link"):
        facts.file("/etc/elsewhere/file")


class Untouchable(Mapping[str, Any]):
    """A table that may be asked for a name, but never walked."""

    def __init__(self, table: Mapping[str, Any]) -> None:
        self.table = table

    def __getitem__(self, name: str) -> Any:
        return self.table[name]

    def __contains__(self, name: object) -> bool:
        return name in self.table

    def __iter__(self):
        raise AssertionError("walked")

    def __len__(self):
        raise AssertionError("counted")


def test_long_tables_are_looked_up_and_never_walked():
    raw = situations.raw("two-tiers")
    facts = Facts({key: Untouchable(raw[key]) if key in ("packages", "files", "units") else raw[key] for key in raw})

    assert facts.packages["mdadm"]
    assert there(facts.file("/etc/passwd")).owner == "root:root"
    assert facts.file("/etc/not-there") is None
    assert there(facts.unit("ssh.service")).enabled == "enabled"


CONDITIONS = {
    "two-tiers": {"gpu-01:hot": "optimal", "gpu-01:warm": "optimal"},
    "degraded": {"gpu-01:hot": "degraded", "gpu-01:warm": "degraded"},
    "rebuilding": {"gpu-01:hot": "rebuilding", "gpu-01:warm": "rebuilding"},
    "syncing": {"gpu-01:hot": "syncing", "gpu-01:warm": "rebuilding"},
    "inactive": {"gpu-01:warm": "inactive"},
    "stopped": {},
    "blank": {},
    "foreign": {"": "degraded"},
}


@pytest.mark.parametrize("situation", situations.SITUATIONS)
def test_the_condition_of_recorded_arrays(situation):
    assert {array.md_name: array.condition for array in situations.facts(situation).arrays} == CONDITIONS[situation]


def content(situation: str, serial: str) -> str:
    return there(situations.facts(situation).drive(serial)).content


def test_a_blank_drive_has_no_content():
    assert {content("blank", f"RW01-{kind}{number}") for kind in ("NVME", "SAS") for number in range(4)} == {""}


@pytest.mark.parametrize(
    ("serial", "words"),
    [
        ("RW01-NVME0", ["ext4 ", "first MiB "]),
        ("RW01-NVME1", ["gpt", "PMBR", "first MiB "]),
        ("RW01-NVME2", ["first MiB "]),
        ("RW01-NVME3", ["linux_raid_member ", "ext4 ", "first MiB "]),
        ("RW01-SAS0", ["LVM2_member ", "first MiB "]),
        ("RW01-SAS1", ["crypto_LUKS ", "first MiB "]),
        ("RW01-SAS3", ["linux_raid_member ", "first MiB "]),
    ],
)
def test_the_content_of_a_foreign_drive_names_all_that_is_on_it(serial, words):
    named = content("foreign", serial).split(", ")

    assert [name.startswith(word) for name, word in zip(named, words, strict=True)] == [True] * len(words)


@pytest.mark.parametrize(
    ("situation", "serial", "user"),
    [("foreign", "RW01-SAS2", "[SWAP]"), ("foreign", "RW01-BOOT", "/"), ("two-tiers", "RW01-NVME0", "md127")],
)
def test_the_content_of_a_drive_in_use_is_not_known(situation, serial, user):
    with pytest.raises(NotKnown) as raised:
        content(situation, serial)
    assert str(raised.value).endswith(f"in use by {user}")


def superblock(facts: Facts, serial: str) -> Superblock:
    return there(there(facts.drive(serial)).superblock)


def test_members_of_a_stopped_array_still_say_whose_they_are():
    facts = situations.facts("stopped")

    assert {superblock(facts, f"RW01-NVME{number}").array_name for number in range(4)} == {"gpu-01:hot"}
    assert facts.arrays == ()


def test_a_member_that_was_taken_out_is_behind_the_others():
    facts = situations.facts("degraded")

    assert superblock(facts, "RW01-NVME1").events < superblock(facts, "RW01-NVME0").events
    assert there(facts.drive("RW01-NVME1")).holders == ()
