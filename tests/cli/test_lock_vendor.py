"""The lock command gets the key of a vendor by its fingerprint, and its packages by that key."""

import hashlib
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from typer.testing import CliRunner

from rackwright.cli.app import app
from rackwright.errors import ChangeRefused, DeclarationError, EndpointUnreachable
from rackwright.fleet.lockfile import load_lock
from rackwright.kinds.role import vendor
from rackwright.lock import key
from rackwright.schema.catalogue import VENDORS, Vendor
from rackwright.stack import declare, load_stack
from tests.support.our_roles import ROLES
from tests.support.package_mirror import Mirror, mirror
from tests.support.stack_settings import configure

__all__ = ["mirror"]
FLEET = """\
fleet: example
hosts:
  alpha:
    address: 192.0.2.11
    identity: {serial: CHASSIS-A}
    os: debian-12
    roles: {base: {}, nvidia_driver: {}, cuda: {source: vendor, versions: ["12.8"]}}
"""


class VendorServer:
    """A signed repository of CUDA, and the key that signs it."""

    def __init__(self, root: Path) -> None:
        (root / "debian12").mkdir(parents=True)
        self.packages = Mirror(root / "debian12/x86_64")
        self.key_file = root.with_name("vendor.key")
        self.public = key.public_key(self.key_file, "a vendor")
        (root / "debian12/x86_64/3bf863cc.pub").write_text(self.public)
        self.fingerprint = fingerprint_of(self.public, root.with_name("public"))
        self.url = ""

    def sign(self) -> None:
        index = (self.packages.directory / "Packages").read_bytes()
        digest = f"{hashlib.sha256(index).hexdigest()} {len(index)}"
        release = f"Date: Thu, 01 Jan 1970 00:00:00 UTC\nSHA256:\n {digest} Packages\n"
        (self.packages.directory / "InRelease").write_text(key.sign(release, self.key_file))


def fingerprint_of(public: str, path: Path) -> str:
    path.write_text(public)
    with key.keyring() as gpg:
        gpg("--import", str(path))
        return next(line.split(":")[9] for line in gpg("--with-colons", "--list-keys").splitlines() if "fpr" in line)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[VendorServer]:
    offered = VendorServer(tmp_path / "vendor")
    for name in ("cuda-toolkit-12-8", "cuda-part"):
        offered.packages.add(name, "12.8.0-1", "cuda-part" if name != "cuda-part" else "")
    offered.sign()

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:
            pass

    listener = ThreadingHTTPServer(("127.0.0.2", 0), partial(Quiet, directory=str(tmp_path / "vendor")))
    threading.Thread(target=listener.serve_forever, args=(0.01,), daemon=True).start()
    offered.url = f"http://127.0.0.2:{listener.server_port}"
    yield offered
    listener.shutdown()
    listener.server_close()


@pytest.fixture
def project(tmp_path: Path, mirror: Mirror, server: VendorServer, monkeypatch: pytest.MonkeyPatch) -> Path:
    project = tmp_path / "project"
    (project / "stacks").mkdir(parents=True)
    (project / "Pulumi.yaml").touch()
    (project / "stacks" / "example.yaml").write_text(FLEET)
    configure(project, "rack", "example.yaml", "rack")
    monkeypatch.chdir(project)
    for name in ("chrony", "unattended-upgrades"):
        mirror.add(name, "1")
    for name, version in packages_of_driver().items():
        mirror.add(name, version)
    use(monkeypatch, server.url, server.fingerprint)
    return project


def packages_of_driver() -> dict[str, str]:
    """Return the packages of the default set of role nvidia_driver."""
    sets = ROLES["nvidia_driver"].by_os["debian-12"]["__nvidia_driver_sets"]
    packages: dict[str, str] = next(one["packages"] for one in sets if one["flavour"] == "open")
    return packages


def rackwright(*arguments: str) -> tuple[int, str]:
    """Return the exit status and what is printed."""
    done = CliRunner().invoke(app, arguments, catch_exceptions=False)
    return done.exit_code, done.stdout


def use(monkeypatch: pytest.MonkeyPatch, url: str, fingerprint: str) -> None:
    known = VENDORS["nvidia-cuda"].model_copy(update={"repository": url, "fingerprint": fingerprint})
    monkeypatch.setattr(vendor, "VENDORS", {"nvidia-cuda": known})


def problems_of(project: Path) -> list[tuple[str, str]]:
    try:
        declare(load_stack("rack", project))
    except DeclarationError as error:
        return [(each.id, each.problem) for each in error.diagnostics]
    return []


def test_a_vendors_packages_are_locked_by_the_key_with_its_fingerprint(project: Path, server: VendorServer) -> None:
    assert problems_of(project) == [("lock-missing", f"there is no lock with the key of {server.url}")]

    assert rackwright("lock", "rack")[0] == 0

    lock = load_lock(project / "stacks/example.lock.yaml")
    assert lock and lock.vendor_keys
    assert [*lock.vendor_keys] == [server.fingerprint]
    [vendors] = {*(lock.vendors or {}).values()}
    assert {"cuda-toolkit-12-8=12.8.0-1", "cuda-part=12.8.0-1"} <= lock.packages[f"debian-12/amd64/{vendors}"].keys()
    assert problems_of(project) == []
    assert rackwright("lock", "--check", "rack")[0] == 0
    (server.packages.directory / "3bf863cc.pub").unlink()  # the lock has it
    assert rackwright("lock", "--check", "rack")[0] == 0


def test_a_lock_from_before_lacks_the_key(project: Path, server: VendorServer) -> None:
    rackwright("lock", "rack")
    path = project / "stacks/example.lock.yaml"
    lock = load_lock(path)
    assert lock
    path.write_text(lock.model_copy(update={"vendor_keys": None}).text)

    assert problems_of(project) == [("lock-outdated", f"the lock lacks the key of {server.url}")]


def test_the_key_of_another_owner_is_refused(
    project: Path, server: VendorServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(monkeypatch, server.url, "A" * 40)
    with pytest.raises(ChangeRefused, match="that of another owner"):
        rackwright("lock", "rack")
    (server.packages.directory / "3bf863cc.pub").write_text("<html>no key</html>")
    with pytest.raises(ChangeRefused, match="the answer is no key"):
        rackwright("lock", "rack")


def test_a_key_of_any_length_is_no_reason_to_wait(project: Path, server: VendorServer) -> None:
    (server.packages.directory / "3bf863cc.pub").write_bytes(b"x" * (1 << 20))
    with pytest.raises(EndpointUnreachable, match="the vendor's key was not sent"):
        rackwright("lock", "rack")


def test_a_mirror_gives_the_packages_and_the_vendor_the_key(
    project: Path, server: VendorServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = project / "stacks/example.yaml"
    path.write_text(path.read_text().replace("source: vendor", f"source: vendor, repository: {server.url}"))
    use(monkeypatch, "http://127.0.0.2:1/nobody", server.fingerprint)

    assert rackwright("lock", "rack")[0] == 0


def test_known_vendors_have_the_keys_that_their_guides_name() -> None:
    assert {name: row.fingerprint[-8:] for name, row in VENDORS.items()} == {
        "nvidia-cuda": "63BF863CC"[-8:],
        "nvidia-container-toolkit": "F796ECB0",
    }
    assert all(isinstance(row, Vendor) and row.repository.startswith("https://") for row in VENDORS.values())
