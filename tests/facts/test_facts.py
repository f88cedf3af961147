"""Typed facts: what was not read is never mistaken for what is not there."""

from collections.abc import Callable, Mapping
from typing import Any

import pytest

from rackwright.facts.facts import Facts
from rackwright.facts.storage import Superblock
from rackwright.facts.view import UnknownFact
from tests.support import recorded_facts
from tests.support.expect import there


def unknown(reason: str) -> dict[str, str]:
    return {"unknown": reason}


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
    "routes": lambda facts: facts.routes,
    "sockets": lambda facts: facts.sockets,
    "resolvers": lambda facts: facts.resolvers,
    "search_domains": lambda facts: facts.search_domains,
    "users": lambda facts: (facts.user("none"), facts.users)[1],
    "groups": lambda facts: facts.group("none"),
    "sysctls": lambda facts: facts.sysctl("vm.none"),
    "modules": lambda facts: facts.module("none"),
    "modules_builtin": lambda facts: facts.module("none"),
    "kernel_parameters": lambda facts: facts.kernel_parameters,
    "boot_id": lambda facts: facts.boot_id,
    "directories": lambda facts: (facts.directory("/etc/none"), facts.listing("/etc"))[1],
    "kernels": lambda facts: facts.next_kernels(),
    "libraries": lambda facts: facts.library("libc.so.6"),
    "dkms": lambda facts: facts.dkms("amdgpu"),
    "readings": lambda facts: facts.reading("rocm.release"),
    "accelerator_users": lambda facts: facts.accelerator_users,
    "redirecting_bridges": lambda facts: facts.redirecting_bridges,
    "module_versions": lambda facts: facts.module_version("nvidia"),
    "gpu_driver": lambda facts: facts.gpu_driver,
    "gpus": lambda facts: facts.gpus,
    "xids": lambda facts: facts.xids,
    "held": lambda facts: there(facts.package("mdadm")).held,
}


@pytest.mark.parametrize("key", READERS)
def test_a_section_that_is_unknown_or_missing_is_never_empty(key):
    raw = {**recorded_facts.raw(recorded_facts.TODAY), **recorded_facts.gpus()}
    READERS[key](Facts(raw))

    with pytest.raises(UnknownFact, match="the tool is gone"):
        READERS[key](Facts({**raw, key: unknown("the tool is gone")}))
    del raw[key]
    with pytest.raises(UnknownFact, match=f"the facts have no .*{key}"):
        READERS[key](Facts(raw))


def test_one_unknown_serial_hides_no_other_drive():
    raw = recorded_facts.raw("blank")
    raw["drives"][0]["serial"] = unknown("no page 80")
    facts = Facts(raw)

    assert there(facts.drive("RW01-SAS3")).name == "sdd"
    with pytest.raises(UnknownFact, match="no page 80"):
        facts.drive("RW01-NVME0")


def test_a_serial_that_no_drive_has_is_absent():
    assert recorded_facts.facts("blank").drive("RW01-NVME9") is None


@pytest.mark.parametrize(
    ("read", "place"),
    [
        (lambda facts: facts.file("/etc/passwd").digest, ("files", "/etc/passwd")),
        (lambda facts: facts.unit("ssh.service").load, ("units", "ssh.service")),
        (lambda facts: facts.text("/etc/mdadm/mdadm.conf"), ("texts", "/etc/mdadm/mdadm.conf")),
        (lambda facts: facts.owner("tier-hot"), ("owners", "tier-hot")),
        (lambda facts: facts.user("root"), ("users", "root")),
        (lambda facts: facts.group("root"), ("groups", "root")),
        (lambda facts: facts.sysctl("vm.swappiness"), ("sysctls", "vm.swappiness")),
        (lambda facts: facts.sysctl("vm.swappiness"), ("sysctls", "vm")),
        (lambda facts: facts.directory("/etc/ssh"), ("directories", "/etc/ssh")),
        (lambda facts: facts.listing("/etc/ssh"), ("files", "/etc/ssh")),
        (lambda facts: facts.measure("chrony.stratum"), ("measures", "chrony.stratum")),
    ],
    ids=["file", "unit", "text", "owner", "user", "group", "sysctl", "sysctls", "directory", "listing", "measure"],
)
def test_one_unknown_entry_is_distinguished_from_none(read, place):
    raw = recorded_facts.raw(recorded_facts.TODAY)
    raw[place[0]][place[1]] = unknown("the medium is bad")

    with pytest.raises(UnknownFact, match=f"{place[1]}.*the medium is bad"):
        read(Facts(raw))


def test_outside_the_probe_s_roots_no_file_is_absent():
    facts = recorded_facts.facts("two-tiers")

    assert facts.file("/etc/not/there") is None
    for path in ("/root/x", "/etcetera", "/opt/other/x"):
        with pytest.raises(UnknownFact, match="does not read"):
            facts.file(path)
    with pytest.raises(UnknownFact, match="does not read the text"):
        facts.text("/etc/passwd")


def test_below_a_closed_folder_and_behind_a_link_no_file_is_absent():
    raw = recorded_facts.raw("two-tiers")
    raw["files"]["/etc/closed"] = unknown("Permission denied")
    raw["files"]["/etc/elsewhere"] = {"digest": "-> /srv", "mode": "0777", "owner": "root:root", "mtime_ns": 1}
    facts = Facts(raw)

    with pytest.raises(UnknownFact, match="Permission denied"):
        facts.file("/etc/closed/in/file")
    with pytest.raises(UnknownFact, match="/etc/elsewhere, which is a link"):
        facts.file("/etc/elsewhere/file")


def test_directories_and_their_names_are_those_below_the_roots():
    facts = recorded_facts.facts(recorded_facts.TODAY)

    assert there(facts.directory("/etc")).mode == "0755"
    assert there(facts.directory("/etc/ssh")).owner == "root:root"
    names = there(facts.listing("/etc/ssh"))
    assert {"sshd_config", "sshd_config.d"} < set(names)
    assert list(names) == sorted(names)
    assert there(facts.listing("/usr/local/bin")) == ()
    for path in ("/etc/none", "/etc/passwd"):
        assert facts.directory(path) is None
        assert facts.listing(path) is None
    for path in ("/root", "/usr", "/"):
        with pytest.raises(UnknownFact, match="does not read"):
            facts.listing(path)


def test_below_a_closed_folder_and_behind_a_link_no_directory_is_absent():
    raw = recorded_facts.raw(recorded_facts.TODAY)
    raw["files"]["/etc/closed"] = unknown("Permission denied")
    raw["directories"]["/etc/closed"] = raw["directories"]["/etc"]
    raw["files"]["/etc/elsewhere"] = {"digest": "-> /srv", "mode": "0777", "owner": "root:root", "mtime_ns": 1}
    facts = Facts(raw)

    assert there(facts.directory("/etc/closed")).mode == "0755"
    for path, reason in (
        ("/etc/closed", "Permission denied"),
        ("/etc/closed/in", "Permission denied"),
        ("/etc/elsewhere", "is a link"),
        ("/etc/elsewhere/in", "which is a link"),
    ):
        with pytest.raises(UnknownFact, match=reason):
            facts.listing(path)


def test_below_a_pattern_only_its_files_can_be_absent():
    raw = recorded_facts.raw(recorded_facts.TODAY)
    raw["covers"]["files"] = ["/etc", "/usr/lib/locale/*/LC_IDENTIFICATION"]
    facts = Facts(raw)

    assert facts.file("/usr/lib/locale/xx_YY.utf8/LC_IDENTIFICATION") is None
    with pytest.raises(UnknownFact, match="does not read"):
        facts.file("/usr/lib/locale/xx_YY.utf8/LC_CTYPE")


def test_a_setting_that_is_left_out_is_not_absent():
    facts = recorded_facts.facts(recorded_facts.TODAY)

    assert facts.sysctl("vm.swappiness") == "7"
    assert facts.sysctl("net.ipv4.conf.all.rp_filter") is not None
    assert facts.sysctl("vm.none") is None
    for key in ("net.ipv4.conf.rack0.rp_filter", "kernel.random.uuid", "fs.binfmt_misc.status", "fs.file-nr"):
        with pytest.raises(UnknownFact, match="does not read"):
            facts.sysctl(key)


def modules(loaded: Any, builtin: Any) -> Facts:
    return Facts({"modules": loaded, "modules_builtin": builtin})


def test_a_module_is_there_when_it_is_loaded_or_built_in():
    facts = modules(["nvidia_uvm"], ["crc_t10dif"])

    assert [facts.module(name) for name in ("nvidia-uvm", "nvidia_uvm", "crc-t10dif", "nouveau")] == [
        True,
        True,
        True,
        False,
    ]
    assert modules(["nvidia_uvm"], unknown("the files are gone")).module("nvidia-uvm")
    with pytest.raises(UnknownFact, match="the files are gone"):
        modules(["nvidia_uvm"], unknown("the files are gone")).module("nouveau")


def test_a_package_is_held_where_the_package_manager_can_hold():
    raw = recorded_facts.raw(recorded_facts.TODAY)
    version = raw["packages"]["mdadm"]
    raw["held"] = ["mdadm"]
    facts = Facts(raw)

    assert (there(facts.package("mdadm")).version, there(facts.package("mdadm")).held) == (version, True)
    assert there(facts.package("dpkg")).held is False
    assert facts.package("none") is None
    package = there(Facts({**raw, "held": unknown("rpm has no holds")}).package("mdadm"))
    assert package.version == version
    with pytest.raises(UnknownFact, match="rpm has no holds"):
        _ = package.held


def test_a_measure_is_a_number_and_a_missing_one_is_not_zero():
    facts = Facts({"measures": {"chrony.offset_seconds": 0.25, "chrony.stratum": 3}})

    assert (facts.measure("chrony.offset_seconds"), facts.measure("chrony.stratum")) == (0.25, 3.0)
    with pytest.raises(UnknownFact, match="no facts.measures.chrony.leap"):
        facts.measure("chrony.leap")


def test_an_older_probe_s_facts_tell_nothing_of_what_it_did_not_see():
    facts = recorded_facts.facts("two-tiers")
    reads: list[Callable[[], Any]] = [
        lambda: facts.sysctl("vm.swappiness"),
        lambda: facts.module("raid10"),
        lambda: facts.user("root"),
        lambda: facts.directory("/etc"),
        lambda: facts.listing("/etc"),
        lambda: facts.measure("chrony.stratum"),
        lambda: there(facts.package("mdadm")).held,
        lambda: facts.links[0].kind,
        lambda: facts.gpus,
    ]

    for read in reads:
        with pytest.raises(UnknownFact, match="the facts have no"):
            read()
    assert there(facts.package("mdadm")).version


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
    raw = recorded_facts.raw("two-tiers")
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
    "bonded": {"gpu-01:hot": "optimal", "gpu-01:idle": "optimal"},
}


@pytest.mark.parametrize("situation", recorded_facts.SITUATIONS)
def test_the_condition_of_recorded_arrays(situation):
    assert {array.md_name: array.condition for array in recorded_facts.facts(situation).arrays} == CONDITIONS[situation]


def content(situation: str, serial: str) -> str:
    return there(recorded_facts.facts(situation).drive(serial)).content


def test_a_blank_drive_has_no_content():
    assert {content("blank", f"RW01-{kind}{number}") for kind in ("NVME", "SAS") for number in range(4)} == {""}


@pytest.mark.parametrize(
    ("serial", "words"),
    [
        ("RW01-NVME0", ["ext4 ", "first MiB "]),
        ("RW01-NVME1", ["gpt", "PMBR", "first MiB ", "p1 xfs ", "p1 first MiB "]),
        ("RW01-NVME2", ["first MiB ", "0 sectors written since "]),
        ("RW01-NVME3", ["linux_raid_member ", "ext4 ", "first MiB "]),
        ("RW01-SAS0", ["LVM2_member ", "first MiB ", "0 sectors written since "]),
        ("RW01-SAS1", ["crypto_LUKS ", "first MiB ", "0 sectors written since "]),
        ("RW01-SAS3", ["linux_raid_member ", "first MiB ", "held by md "]),
    ],
)
def test_the_content_of_a_foreign_drive_names_all_that_is_on_it(serial, words):
    named = content("foreign", serial).split(", ")

    assert [name.startswith(word) for name, word in zip(named, words, strict=True)] == [True] * len(words)


@pytest.mark.parametrize(
    ("situation", "serial", "user"),
    [("foreign", "RW01-SAS2", "[SWAP]"), ("foreign", "RW01-BOOT", "/"), ("bonded", "F1-NVME0", "md127")],
)
def test_the_content_of_a_drive_in_use_is_not_known(situation, serial, user):
    with pytest.raises(UnknownFact) as raised:
        content(situation, serial)
    assert str(raised.value).endswith(f"in use by {user}")


def superblock(facts: Facts, serial: str) -> Superblock:
    return there(there(facts.drive(serial)).superblock)


def test_members_of_a_stopped_array_still_say_whose_they_are():
    facts = recorded_facts.facts("stopped")

    assert {superblock(facts, f"RW01-NVME{number}").array_name for number in range(4)} == {"gpu-01:hot"}
    assert facts.arrays == ()


def test_a_member_that_was_taken_out_is_behind_the_others():
    facts = recorded_facts.facts("degraded")

    assert superblock(facts, "RW01-NVME1").events < superblock(facts, "RW01-NVME0").events
    assert there(facts.drive("RW01-NVME1")).holders == ()
