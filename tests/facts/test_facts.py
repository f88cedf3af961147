"""Typed facts: what was not read is never mistaken for what is not there."""

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar

import pytest

from rackwright.facts.facts import Facts
from rackwright.facts.kubernetes import ClusterFacts
from rackwright.facts.storage import Superblock
from rackwright.facts.view import Fact, UnknownFact, View
from tests.support import recorded_facts, recorded_hosts
from tests.support.converged_host import SEEDED
from tests.support.inventory import ACCOUNT_FILES, BOOT, INTEGRITY, PACKAGE_DATABASE
from tests.support.queue_objects import SERVICE
from tests.support.recorded_hosts import AT_ENDPOINTS, RESOURCES, STACK
from tests.support.rule_cases import FILE


def unknown(reason: str) -> dict[str, str]:
    return {"unknown": reason}


def views(facts: Facts) -> list[View]:
    """Return every view that *facts* can give, once each."""
    found: list[View] = [
        facts,
        *of_an_older_probe(facts),
        *facts.swaps,
        *facts.links,
        *facts.routes,
        *facts.sockets,
        *facts.users,
    ]
    found += [*facts.arrays, *facts.filesystems, *(drive.superblock for drive in facts.drives if drive.superblock)]
    found += [drive.health for drive in facts.drives if drive.bus == "nvme"]
    found += [member for array in facts.arrays for member in array.members]
    found += [there(facts.group(name)) for name in facts.read("groups")]
    found += [there(facts.package(name)) for name in facts.packages]
    found += [there(facts.directory(path)) for path in facts.read("directories")]
    found += [there(facts.path(address)) for address in facts.read("paths")]
    return [*found, *of_gpus(Facts(recorded_facts.gpus())), *of_a_dead_route()]


def of_gpus(facts: Facts) -> list[View]:
    """Return those views that only a host with GPUs has."""
    found: list[View] = [facts.gpu_driver, *facts.xids, *facts.gpus]
    opened = {"pid": 7, "name": "python3", "device": "/dev/kfd"}
    found += Facts({"accelerator_users": [opened]}).accelerator_users
    return found + [part for gpu in facts.gpus for part in (*gpu.mig_instances, *gpu.processes)]


def of_a_dead_route() -> tuple[View, ...]:
    """Return the view that only a host has with a route that leads nowhere."""
    dead = {"destination": "192.0.2.0/24", "kind": "blackhole", "metric": 0, "gateway": None}
    return Facts({"dead_routes": [dead]}).dead_routes


def of_an_older_probe(facts: Facts) -> list[View]:
    """Return those views that were whole from the first."""
    found: list[View] = [facts.identity, *facts.mounts]
    for drive in facts.drives:
        found += [drive, *drive.signatures]
    found += [there(facts.unit(name)) for name in facts.read("units")]
    found += [there(facts.file(path)) for path in facts.read("files")]
    return found


def views_of_kinds() -> list[View]:
    """Return the views through which the kinds observe the hosts that were recorded for them."""
    found: list[View] = []
    original = View.__init__

    def record(view: View, raw: Mapping[str, Any], where: str) -> None:
        original(view, raw, where)
        found.append(view)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(View, "__init__", record)
        for declared in (*RESOURCES.values(), *AT_ENDPOINTS.values()):
            facts = Facts(recorded_hosts.recorded(declared.source))
            declared.kind.observe(declared.kind.claims(declared.spec, STACK.repository), facts)
            declared.kind.report(declared.spec, facts)
    return found


def of_hand_edits() -> tuple[View, ...]:
    """Return the views of accounts, of dpkg's database and of the next start, with one example of each."""
    home = {"owner": "a:a", "uid": 1, "mode": "0755", "sort": "directory"}
    accounts = Facts(
        {
            "account_files": {
                **ACCOUNT_FILES,
                "odd_lines": [{"file": "/etc/passwd", "line": 1, "name": "+", "reason": "a line of NIS"}],
                "duplicates": [{"file": "/etc/passwd", "sort": "id", "key": "0", "names": ["root", "toor"]}],
                "group_rights": {"sudo": {"administrators": ["eve"]}},
                "dates": {"root": {"expires": 1}},
                "homes": {"root": home},
            }
        }
    ).account_files
    database = Facts(
        {
            "package_database": {
                **PACKAGE_DATABASE,
                "diversions": [{"path": "/usr/bin/a", "to": "/usr/bin/b", "by": "a person"}],
                "rights": {"/usr/bin/a": {"mode": "0755", "owner": "root:root"}},
                "choices": {"pager": {"mode": "manual", "target": "/bin/more", "best": "/bin/less"}},
            }
        }
    ).package_database
    mapping = {"line": 1, "name": "a", "device": "UUID=0a", "key": "none", "options": "luks"}
    added = {"/run/extensions/x": {"sort": "extension", "owner": "root:root"}}
    boot = Facts({"boot": {**BOOT, "mappings": [mapping], "additions": added}}).boot
    own = accounts.home("root")
    return (
        *(accounts, *accounts.odd_lines, *accounts.duplicates, *accounts.group_rights.values()),
        *(*accounts.dates.values(), *accounts.base_users.values(), *([own] if own else [])),
        *(database, *database.diversions, *database.rights.values(), *database.choices.values()),
        *(boot, *boot.mounts, *boot.mappings, *boot.additions.values()),
    )


def views_of_rules() -> tuple[View, ...]:
    """Return the views that the rules of the audit read, of the host on which undeclared things were put."""
    facts = Facts(json.loads(SEEDED.read_text()))
    containers = Facts({"containers": {"docker": [{"name": "web", "image": "nginx:1"}]}}).containers("docker")
    exports = Facts({"nfs_exports": [{"path": "/etc/exports", "directory": "/srv", "clients": ["*(rw)"]}]}).nfs_exports
    account = Facts({"integrity": INTEGRITY, "files": {"/usr/bin/x": FILE}}).integrity
    row = account.row("/usr/bin/x", {"/usr/bin/x": FILE})
    trial = {"state": "waiting", "until": 1.0, "boot": "b", "service": "s", "timer": "t", "deadline": "d"}
    trials = Facts({"trials": {"role-access": trial}}).trials
    sudo_file = Facts({"sudo_settings": {"/etc/sudoers": {"ignored": "a name with a dot", "settings": []}}}).sudo_file
    state = {"mode": "0700", "owner": "x:x", "access_list": False, "open": []}
    certificate = {"names": ["x"], "not_after": 1, "has_key": True}
    services = Facts({"state_directories": {"/x": state}, "service_certificates": {"/x": certificate}})
    return (
        *(each for each in (services.state_directory("/x"), services.service_certificate("/x")) if each),
        *of_hand_edits(),
        *trials.values(),
        *(each for each in [sudo_file("/etc/sudoers")] if each),
        *facts.archives,
        *facts.listeners,
        *containers,
        *exports,
        account,
        row,
        *of_pods(),
        *of_queue(),
        *of_audit_log(),
        *of_store(),
    )


def of_store() -> Iterator[View]:
    """Yield the views of an object store on a host."""
    names = ("rules", "accounts", "stored", "volumes")
    settings = {**{name: [] for name in names}, "buckets": {"models": {"tags": {}, "set": []}}}
    store = there(Facts({"object_store": {"buffered": [], "rights": [], "settings": settings}}).object_store)
    yield from (store, store.settings, *store.settings.buckets.values())


def of_audit_log() -> Iterator[View]:
    """Yield the views of a chain over an audit log, and of a place at which the log differs from it."""
    place = {"sort": "edited", "number": 0, "place": "/var/log/audit/audit.log"}
    chain = {"id": "c0", "number": 0, "time": "2026-11-29T08:00:00Z", "hashes": "a" * 32, "breaks": [place]}
    found = there(Facts({"log_chain": chain}).log_chain)
    yield found
    yield from found.breaks


def of_pods() -> Iterator[View]:
    """Return the view of a run's or server's object in a cluster."""
    job = {"labels": {}, "conditions": {"Suspended": "not admitted"}, "spec": {}, "status": {}}
    return ClusterFacts({"workloads": {"vision/Job/digits": job}}, "facts.kubernetes_cluster").workloads("vision/")


def of_queue() -> Iterator[View]:
    """Yield the views of controllers in a cluster: all, one of their objects, and a job that waits for Kueue."""
    cluster = there(Facts(recorded_hosts.recorded("hazel")).cluster)
    queue = there(cluster.queue)
    yield from (queue, there(queue.object(SERVICE)), there(queue.job("vision/JobSet/another")))
    yield from (there(cluster.controllers(name)) for name in ("groups", "metrics"))


T = TypeVar("T")


def there(found: T | None) -> T:
    assert found is not None
    return found


def values(view: View) -> dict[str, Any]:
    return {name: fact for name, fact in vars(type(view)).items() if isinstance(fact, Fact)}


def views_below(view: type[View]) -> set[type[View]]:
    return {each for below in view.__subclasses__() for each in (below, *views_below(below))}


def missing(view: View) -> list[str]:
    """Return the reasons of values that have no place in the facts of *view*."""
    reasons = []
    for name in values(view):
        try:
            getattr(view, name)
        except UnknownFact as reason:
            reasons.append(str(reason))
    return [reason for reason in reasons if "the facts have no" in reason]


@pytest.mark.parametrize("situation", recorded_facts.SITUATIONS)
def test_the_probe_writes_all_that_is_read(situation):
    """
    A value may be unknown for a reason of the host's, but no place is missing.
    """
    facts = recorded_facts.facts(situation)
    for view in views(facts) if situation == recorded_facts.TODAY else of_an_older_probe(facts):
        assert missing(view) == []


def test_every_view_has_a_recorded_example_without_a_missing_value():
    """
    A view is in the facts of the host with all drives, or in those of a host that some kind is tested with.
    """
    examples = (*views(recorded_facts.facts(recorded_facts.TODAY)), *views_of_kinds(), *views_of_rules())

    of_facts = {view for view in views_below(View) if view.__module__.startswith("rackwright.facts.")}
    without_example = of_facts - {type(view) for view in examples if not missing(view)}

    assert without_example == {*Facts.__bases__}


def test_the_rest_is_read_too():
    facts = recorded_facts.facts("two-tiers")

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
