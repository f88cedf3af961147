"""What apt resolves and fetches: exactly, as before where that fits, and from here where nobody else has it."""

import hashlib
from pathlib import Path

import pytest
from jinja2 import Environment, StrictUndefined

from rackwright.errors import ChangeRefused, SetupError
from rackwright.lock import apt, store
from rackwright.lock.apt import Apt
from rackwright.lock.package_sets import PackageSet
from tests.support.package_mirror import OS, Mirror, serve_vendor

PINNED = {
    "container_runtime": {"container_runtime_nvidia_toolkit": "1", "__container_runtime_packages": []},
    "cuda": {"cuda_source": "vendor", "__cuda_packages": []},
    "dcgm": {"__dcgm_packages": []},
    "gaudi": {"__gaudi_all": {}},
    "kubernetes_node": {"__kubernetes_node_pinned": []},
    "nvidia_driver": {},
    "rdma": {"rdma_packages": {}},
    "rocm": {"rocm_packages": {}},
}
"""Variables of the preferences of each role with a vendor."""
ROLES = Path(__file__).parents[2] / "roles"


def vendors_preferences(role: str, url: str) -> str:
    """Return the preferences that *role* writes for the vendor at *url*."""
    folder = ROLES / role / "templates/etc/apt/preferences.d"
    names = ("repository", "driver_repository")
    variables = {**PINNED[role], **{f"{role}_{name}": url for name in names}}
    texts = [
        Environment(undefined=StrictUndefined, trim_blocks=True)  # noqa: S701 -- the texts are no HTML
        .from_string(path.read_text())
        .render(host={"name": "alpha"}, **variables)
        for path in sorted(folder.glob("*.j2"))
        if "repository" in path.read_text()
    ]
    return "\n".join(texts)


def test_every_role_with_a_vendor_has_preferences():
    assert {path.parents[4].name for path in ROLES.glob("*/templates/etc/apt/sources.list.d/*")} - {"base"} == set(
        PINNED
    )


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


class Resolver:
    """One apt, prepared anew for each question."""

    def __init__(self, root: Path) -> None:
        self.apt = Apt(OS, root)
        self.messages: list[str] = []

    def resolve(self, *packages: str, locked: dict[str, str] | None = None, pins: str = "") -> dict[str, str]:
        self.apt.prepare(self.messages.append)
        wanted = PackageSet(OS, packages, (("60-role", pins),) if pins else ())
        return self.apt.resolve(wanted, locked or {}, ("alpha",))

    def keep(self, *packages: str) -> dict[str, str]:
        found = self.resolve(*packages)
        self.apt.download(PackageSet(OS, packages, ()), found, lambda percent, text: None)
        self.apt.collect(found)
        return found


@pytest.fixture
def resolver(tmp_path: Path, mirror: Mirror) -> Resolver:
    return Resolver(tmp_path / "apt")


def test_a_set_has_all_that_it_needs_by_the_hashes_of_the_files(mirror, resolver):
    driver, library = mirror.add("driver", "1:2.0-1", "library (>= 1)"), mirror.add("library", "1.5~rc1+b2")
    mirror.add("library", "0.9")

    assert resolver.resolve("driver=1:2.0-1") == {
        "driver=1:2.0-1": sha256(driver),
        "library=1.5~rc1+b2": sha256(library),
    }


def test_what_is_locked_stays_until_it_does_not_fit(mirror, resolver):
    mirror.add("driver", "1", "library")
    mirror.add("library", "1")
    locked = resolver.resolve("driver")
    mirror.add("library", "2")
    mirror.add("driver", "2", "library (= 2)")

    assert [*resolver.resolve("driver", locked=locked)] == ["library=1", "driver=1"]
    assert set(resolver.resolve("driver")) == {"driver=2", "library=2"}
    with pytest.raises(ChangeRefused, match="held broken packages"):
        resolver.resolve("driver=2", locked=locked)


def test_what_roles_prefer_goes_before_what_is_locked(mirror, resolver):
    for version in ("1", "2"):
        mirror.add("library", version)
    pins = "Package: library\nPin: version 1\nPin-Priority: 1001\n"

    assert [*resolver.resolve("library", locked={"library=2": ""}, pins=pins)] == ["library=1"]


def test_a_version_that_no_source_has_is_refused_by_its_name(mirror, resolver):
    mirror.add("driver", "1")

    with pytest.raises(ChangeRefused) as caught:
        resolver.resolve("driver=535.1")

    assert str(caught.value).startswith(
        "alpha: apt cannot resolve the packages: Version '535.1' for 'driver' was not found; packages that"
    )


def test_what_was_kept_is_there_when_the_mirror_has_dropped_it(mirror, resolver):
    old, library = mirror.add("driver", "1", "library (= 1)"), mirror.add("library", "1")
    kept = resolver.keep("driver=1")
    for path in (old, library):
        mirror.drop(path)
    mirror.add("driver", "2")

    assert resolver.resolve("driver=1") == kept
    assert resolver.keep("driver=1") == kept
    assert {store.package(OS, digest).exists() for digest in kept.values()} == {True}
    assert not resolver.messages


def test_a_mirror_that_is_silent_is_reported_and_no_reason_to_end(mirror, resolver, monkeypatch):
    mirror.add("driver", "1")
    kept = resolver.keep("driver=1")
    monkeypatch.setattr(apt, "mirrors", lambda suite, components: ["deb [trusted=yes] http://127.0.0.1:1/x ./"])

    assert resolver.resolve("driver=1") == kept
    assert "debian-12: apt could not read all mirrors: " in resolver.messages[0]
    with pytest.raises(ChangeRefused, match=r"'2' for 'driver' was not found; and of mirrors: .*127\.0\.0\.1"):
        resolver.resolve("driver=2")


def test_a_package_that_is_not_what_the_index_says_is_not_kept(mirror, resolver):
    path = mirror.add("driver", "1")
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))

    resolver.apt.prepare(resolver.messages.append)
    wanted = PackageSet(OS, ("driver",), ())
    locked = resolver.apt.resolve(wanted, {}, ("alpha",))
    with pytest.raises((ChangeRefused, SetupError)):
        resolver.apt.download(wanted, locked, lambda percent, text: None)
        resolver.apt.collect(locked)
    assert not list(store.directory().glob("*/[!.]*.deb"))


def test_what_is_half_there_is_gone_on_with(mirror, resolver, tmp_path):
    """What apt has fetched in a run that was cut off is taken from where it lies; the mirror need not have it."""
    path = mirror.add("driver", "1")
    resolver.apt.prepare(resolver.messages.append)
    wanted = PackageSet(OS, ("driver",), ())
    locked = resolver.apt.resolve(wanted, {}, ("alpha",))
    path.rename(tmp_path / "apt/var/cache/apt/archives/driver_1_all.deb")

    resolver.apt.download(wanted, locked, lambda percent, text: None)
    resolver.apt.collect(locked)

    assert store.package(OS, locked["driver=1"]).exists()


def test_no_other_content_gets_a_place_in_the_pool(tmp_path, mirror):
    (tmp_path / "file").write_text("one")

    with pytest.raises(SetupError, match="0000, as in the lock"):
        store.take(tmp_path / "file", tmp_path / "target", "0" * 64)
    assert not (tmp_path / "target").exists()


def test_packages_of_a_vendor_come_from_the_repository_that_a_role_declares(tmp_path, mirror, resolver):
    vendor = Mirror(tmp_path / "vendor")
    library = vendor.add("libcuda1", "580.95.05-1")
    with pytest.raises(ChangeRefused):
        resolver.resolve("libcuda1=580.95.05-1")

    text = f"Types: deb\nURIs: file:{vendor.directory}/\nSuites: ./\nTrusted: yes\nSigned-By: /etc/apt/keyrings/v.asc\n"
    files = (("/etc/apt/sources.list.d/vendor.sources", text), ("/etc/apt/keyrings/v.asc", "a key\n"))
    with_vendor = Resolver(tmp_path / "apt")
    with_vendor.apt = Apt(OS, tmp_path / "apt", files)
    assert with_vendor.resolve("libcuda1=580.95.05-1") == {"libcuda1=580.95.05-1": sha256(library)}
    assert (
        f"Signed-By: {tmp_path}/apt/etc/apt/keyrings/v.asc"
        in (tmp_path / "apt/etc/apt/sources.list.d/vendor.sources").read_text()
    )

    with pytest.raises(ChangeRefused):  # the next lock has no such repository, and nothing of it stays
        resolver.resolve("libcuda1=580.95.05-1")


def test_a_newer_package_in_the_pool_takes_no_mirrors_place(tmp_path, mirror, resolver):
    """The pool has what hosts with a vendor got; other hosts get it only if no mirror has the package."""
    mirror.add("openssh-server", "1")
    vendor = Mirror(tmp_path / "vendor")
    vendor.add("tool", "3")
    store.add([vendor.add("openssh-server", "99.evil"), vendor.directory / "tool_3_all.deb"], OS)

    assert [*resolver.resolve("openssh-server")] == ["openssh-server=1"]
    assert [*resolver.resolve("openssh-server=99.evil")] == ["openssh-server=99.evil"]
    assert [*resolver.resolve("tool")] == ["tool=3"]


@pytest.mark.parametrize("role", sorted(PINNED))
def test_a_vendor_gives_what_its_role_promises_and_nothing_that_a_mirror_has(tmp_path, mirror, role):
    """The preferences are those of the role, as hosts have them."""
    mirror.add("openssh-server", "1")
    vendor = Mirror(tmp_path / "vendor")
    for name, version, depends in (
        ("openssh-server", "99.evil", ""), ("vendors", "2", "only-vendors"), ("only-vendors", "1", "")
    ):  # fmt: skip
        vendor.add(name, version, depends)
    with serve_vendor(vendor) as url:
        text = vendors_preferences(role, url)
        source = (("/etc/apt/sources.list.d/vendor.list", f"deb [trusted=yes] {url} ./\n"),)
        apt = Apt(OS, tmp_path / "apt", source)
        messages: list[str] = []
        apt.prepare(messages.append)
        wanted = PackageSet(OS, ("openssh-server", "vendors=2"), (("60-role", text),), source)
        found = apt.resolve(wanted, {}, ("alpha",))

    assert not messages
    assert set(found) == {"openssh-server=1", "vendors=2", "only-vendors=1"}
