"""What is looked for, for whom."""

from dataclasses import replace
from pathlib import Path

from rackwright.core.repository import Repository, Roles, RoleSource
from rackwright.fleet.lockfile import Lock
from rackwright.lock import resolve, store
from rackwright.lock.package_sets import PackageSet, images, package_sets
from rackwright.schema import Fleet
from rackwright.schema.mirror import Mirror as DeclaredMirror
from rackwright.stack import Stack
from tests.support.package_mirror import Mirror

ROOT = Path(__file__).parents[2]
SERVER = RoleSource(
    "server",
    defaults={"server_image": "", "server_old": False},
    by_os={"debian-12": {}},
    claims=(
        {"package": "runtime", "version": "1.2", "held": True},
        {"package": "helper"},
        {"package": "forerunner", "installed": False},
        {"package": "old", "version": "0.9", "when": "server_old"},
        {
            "file": "/etc/apt/preferences.d/60-server",
            "content": "Explanation: {{ host.name }}\nPackage: helper\nPin: version 3\nPin-Priority: 1001\n",
        },
        {"file": "/etc/apt/keyrings/server.asc", "content": "a key\n", "when": "server_old"},
        {
            "file": "/etc/apt/sources.list.d/server.sources",
            "content": "# {{ host.name }}\nURIs: a\n",
            "when": "server_old",
        },
    ),
)


def stack(**roles: dict[str, object]) -> Stack:
    repository = Repository(Repository.load(ROOT, b"salt").templates, {**Roles(ROOT), "server": SERVER}, b"salt")
    hosts = {
        name: {
            "address": f"192.0.2.{number}",
            "identity": {"serial": name},
            "os": "debian-12",
            "roles": {"server": role},
        }
        for number, (name, role) in enumerate(roles.items(), start=1)
    }
    return Stack("lab", ROOT, Fleet.model_validate({"fleet": "lab", "hosts": hosts}), {}, repository, b"salt")


def test_hosts_that_want_the_same_are_one_set():
    """
    What names the host among apt's preferences is for people alone.
    """
    found = package_sets(stack(alpha={}, beta={}, gamma={"old": True}))

    assert [(one.packages, hosts) for one, hosts in found.items()] == [
        (("helper", "runtime=1.2"), ("alpha", "beta")),
        (("helper", "old=0.9", "runtime=1.2"), ("gamma",)),
    ]
    assert [one.sources for one in found] == [
        (),
        (("/etc/apt/keyrings/server.asc", "a key\n"), ("/etc/apt/sources.list.d/server.sources", "URIs: a\n")),
    ]
    assert {one.preferences for one in found} == {
        (("60-server", "Package: helper\nPin: version 3\nPin-Priority: 1001\n"),)
    }


def test_images_are_locked_by_the_digest_that_is_declared():
    one, other = "1" * 64, "2" * 64
    content = {"images": [{"run": f"registry.example/a@sha256:{one}"}, "registry.example/c:latest"]}

    found = images(stack(alpha={"image": f"b@sha256:{other}"}, beta=content))

    assert found == {"b": other, "registry.example/a": one}


def with_vendor(vendor: Mirror, mirror: Mirror) -> Stack:
    """Return a stack whose host gamma declares *vendor*; that has a package of the distribution in a version above."""
    mirror.add("helper", "1")
    mirror.add("runtime", "1.2")
    mirror.add("old", "0.9")
    vendor.add("helper", "99.evil")
    source = {
        "file": "/etc/apt/sources.list.d/server.list",
        "content": f"deb [trusted=yes] file:{vendor.directory} ./\n",
        "when": "server_old",
    }
    claims = (*(each for each in SERVER.claims if "file" not in each), source)
    declared = stack(alpha={}, gamma={"old": True})
    roles = {**declared.repository.roles, "server": replace(SERVER, claims=claims)}
    return replace(declared, repository=replace(declared.repository, roles=roles))


def test_a_vendor_reaches_only_the_hosts_that_declare_it(tmp_path, mirror):
    """apt of a host without the vendor's role reads neither its repository nor its key."""
    declared = with_vendor(Mirror(tmp_path / "vendor"), mirror)
    apts = resolve.load_apts(declared)
    for apt in apts.values():
        apt.prepare(lambda text: None)
    found = {hosts: {*apts[each.origins].resolve(each, {}, hosts)} for each, hosts in package_sets(declared).items()}

    assert found[("alpha",)] == {"helper=1", "runtime=1.2"}
    assert len(apts) == 2 and len({apt.root for apt in apts.values()}) == 2


def locked(declared: Stack) -> Lock:
    apts = resolve.load_apts(declared)
    for apt in apts.values():
        apt.prepare(lambda text: None)
    return resolve.resolve(declared, apts).lock


def test_the_lock_has_the_packages_of_a_vendor_for_its_hosts_alone(tmp_path, mirror):
    """
    All packages of a system were in one list, from which each host with `mirror` takes.
    """
    declared = with_vendor(Mirror(tmp_path / "vendor"), mirror)
    lock = locked(declared)
    assert lock.vendors is not None
    [(host, name)] = lock.vendors.items()
    assert host == "gamma"
    assert {system: {*packages} for system, packages in lock.packages.items()} == {
        "debian-12/amd64": {"helper=1", "runtime=1.2"},
        f"debian-12/amd64/{name}": {"helper=99.evil", "old=0.9", "runtime=1.2"},
    }
    assert (lock.suite("alpha", "debian-12"), lock.suite("gamma", "debian-12")) == ("debian-12", f"debian-12-{name}")
    assert locked(replace(declared, lock=lock)).packages == lock.packages, "locked again, nothing changes"
    with_key = lock.model_copy(update={"key": "a key"})
    of_hosts = replace(declared, lock=with_key, fleet=declared.fleet.model_copy(update={"mirror": DeclaredMirror()}))
    suites = {host: getattr(of_hosts.mirror_of(host), "suite", None) for host in ("alpha", "gamma")}
    assert suites == {"alpha": "", "gamma": f"debian-12-{name}"}


def test_a_lock_of_all_vendors_together_gives_no_host_their_versions(tmp_path, mirror):
    """
    The pool has what a host with the vendor got, and the lock of an earlier rackwright preferred it everywhere.
    """
    vendor = Mirror(tmp_path / "vendor")
    declared = with_vendor(vendor, mirror)
    store.add([vendor.directory / "helper_99.evil_all.deb"], "debian-12")
    mixed = {"debian-12/amd64": {"helper=99.evil": "0", "runtime=1.2": "0", "old=0.9": "0"}}
    before = locked(declared).model_copy(update={"vendors": None, "packages": mixed})
    lock = locked(replace(declared, lock=before))
    assert {*lock.packages["debian-12/amd64"]} == {"helper=1", "runtime=1.2"}


def test_hosts_may_have_two_repositories_of_one_vendor():
    """Each host's packages are resolved with its own file, though both files have one name."""
    one, two = (PackageSet("debian-12", ("a",), (), (("/etc/apt/sources.list.d/v.list", text),)) for text in "ab")

    assert one.origins != two.origins and one.origins.name != two.origins.name
