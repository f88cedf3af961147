"""Each view has recorded facts, by which all of its values are read."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from rackwright.facts.facts import Facts
from rackwright.facts.kubernetes import ClusterFacts
from rackwright.facts.view import Fact, UnknownFact, View
from tests.support import recorded_facts, recorded_hosts
from tests.support.converged_host import SEEDED
from tests.support.expect import there
from tests.support.inventory import ACCOUNT_FILES, BOOT, INTEGRITY, PACKAGE_DATABASE
from tests.support.queue_objects import SERVICE
from tests.support.recorded_hosts import AT_ENDPOINTS, RESOURCES, STACK
from tests.support.rule_cases import FILE


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
