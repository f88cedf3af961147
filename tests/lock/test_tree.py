"""The local repository, asked by real apt and real pip over HTTP."""

import io
import os
import shutil
import subprocess
import sys
import tarfile
import threading
import zipfile
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from rackwright.core.repository import Repository
from rackwright.fleet.lockfile import Lock
from rackwright.kinds.role.spec import AboutFleet, AboutHost, AboutMirror
from rackwright.lock import key, store, tree, wheels
from rackwright.lock.store import sha256
from tests.support.package_mirror import OS, Mirror

ROOT = Path(__file__).parents[2]


@pytest.fixture
def kept(mirror: Mirror) -> dict[str, str]:
    """Two versions of a package, in the pool."""
    found = {}
    for version in ("1", "2"):
        path = mirror.add("driver", version)
        found[f"driver={version}"] = digest = sha256(path)
        store.take(path, store.package(OS, digest), digest)
    return found


def locked(packages: dict[str, str], key_file: Path, **more: object) -> Lock:
    public = key.public_key(key_file, "rack")
    content = {"fleet": "rack", "rackwright": "1", "repository": "0", "roles": {}, "key": public, **more}
    return Lock.model_validate({**content, "packages": {f"{OS}/amd64": packages}})


@pytest.fixture
def serve() -> Iterator[object]:
    servers = []

    def started(directory: Path) -> str:
        class Quiet(SimpleHTTPRequestHandler):
            def log_message(self, format: str, *args: object) -> None:
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(directory)))
        servers.append(server)
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        return f"http://127.0.0.1:{server.server_port}/"

    yield started
    for server in servers:
        server.shutdown()
        server.server_close()


class Host:
    """apt of a host with the files that role base writes."""

    def __init__(self, root: Path, url: str, public: str, suite: str = "") -> None:
        self.root = root
        for folder in (
            *("var/lib/apt/lists/partial", "var/cache/apt/archives/partial"),
            *("etc/apt/preferences.d", "etc/apt/apt.conf.d"),
        ):
            (root / folder).mkdir(parents=True)
        (root / "status").touch()
        about = AboutHost(name="alpha", os=OS, profile="none")
        fleet = AboutFleet(name="rack", mirror=AboutMirror(url=url, key=public, suite=suite))
        repository = Repository.load(ROOT, b"salt")
        names = ("rackwright.sources", "apt.conf.d/90rackwright-mirror")
        sources, switch = (repository.render(f"base/etc/apt/{name}.j2", host=about, fleet=fleet) for name in names)
        (root / "etc/apt/rackwright.sources").write_text(sources)
        switch = switch.replace("/etc/apt/rackwright.sources", f"{root}/etc/apt/rackwright.sources")
        settings = f'Dir "{root}/";\nDir::State::status "{root}/status";\nAPT::Sandbox::User "";\n'
        (root / "apt.conf").write_text(f'{settings}APT::Architecture "amd64";\n{switch}')
        (root / "etc/apt/sources.list").write_text("deb http://127.0.0.1:1/ of another\n")

    def apt(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "APT_CONFIG": str(self.root / "apt.conf"), "LC_ALL": "C"}
        argv = ["apt-get", "-q", "-y", *arguments]
        return subprocess.run(argv, env=environment, capture_output=True, text=True, cwd=self.root)


def test_a_host_gets_the_locked_packages_from_no_other_source(tmp_path, kept, serve):
    lock = locked(kept, tmp_path / "rack.key")
    tree.write(lock, tmp_path / "tree", tmp_path / "rack.key")
    host = Host(tmp_path / "host", serve(tmp_path / "tree"), lock.key or "")

    assert host.apt("update", "--error-on=any").returncode == 0
    done = host.apt("install", "--download-only", "driver=1")
    assert done.returncode == 0, done.stderr
    [path] = (tmp_path / "host/var/cache/apt/archives").glob("*.deb")
    assert (path.name, sha256(path)) == ("driver_1_all.deb", kept["driver=1"])
    assert host.apt("install", "--download-only", "driver=3").returncode != 0


def test_a_host_gets_nothing_of_a_vendor_that_it_does_not_declare(tmp_path, kept, serve):
    """
    A tree had one list for each system, with the packages of the vendors of all its hosts.
    """
    split = {f"{OS}/amd64": {"driver=1": kept["driver=1"]}, f"{OS}/amd64/v1": kept}
    lock = locked({}, tmp_path / "rack.key").model_copy(update={"packages": split, "vendors": {"gamma": "v1"}})
    tree.write(lock, tmp_path / "tree", tmp_path / "rack.key")
    url = serve(tmp_path / "tree")
    for suite, status in (("", False), (lock.suite("gamma", OS), True)):
        host = Host(tmp_path / f"host{suite}", url, lock.key or "", suite)
        assert host.apt("update", "--error-on=any").returncode == 0
        assert host.apt("install", "--download-only", "driver=1").returncode == 0
        assert (host.apt("install", "--download-only", "driver=2").returncode == 0) == status
    with_one = lock.model_copy(update={"packages": {f"{OS}/amd64": kept}, "vendors": {}})
    tree.write(with_one, tmp_path / "tree", tmp_path / "rack.key")
    assert [path.name for path in (tmp_path / "tree/dists").iterdir()] == [OS], "a suite without hosts is gone"


def test_what_another_key_signed_is_not_taken(tmp_path, kept, serve):
    lock = locked(kept, tmp_path / "rack.key")
    tree.write(lock, tmp_path / "tree", tmp_path / "rack.key")
    host = Host(tmp_path / "host", serve(tmp_path / "tree"), key.public_key(tmp_path / "other.key", "rack"))

    done = host.apt("update", "--error-on=any")

    assert done.returncode != 0
    assert "NO_PUBKEY" in done.stderr


@pytest.mark.parametrize("name", ["Packages*", "InRelease"])
def test_an_index_that_was_changed_is_not_taken(tmp_path, kept, serve, name):
    lock = locked(kept, tmp_path / "rack.key")
    tree.write(lock, tmp_path / "tree", tmp_path / "rack.key")
    for path in (tmp_path / "tree/dists").rglob(name):
        path.write_bytes(path.read_bytes().replace(b"Origin: rackwright", b"Origin: somebody_x") + b"\n")
    host = Host(tmp_path / "host", serve(tmp_path / "tree"), lock.key or "")

    assert host.apt("update", "--error-on=any").returncode != 0
    assert host.apt("install", "--download-only", "driver=1").returncode != 0


def test_a_tree_knows_what_it_lacks(tmp_path, kept):
    key_file, directory = tmp_path / "rack.key", tmp_path / "tree"
    lock = locked(kept, key_file)
    assert tree.find_missing(lock, directory) == "it does not exist"
    tree.write(lock, directory, key_file)
    assert tree.find_missing(lock, directory) is None

    other = lock.model_copy(update={"repository": "1"})
    assert tree.find_missing(other, directory) == "it belongs to another lock"
    gone = store.package(OS, kept["driver=1"])
    gone.unlink()
    assert tree.find_missing(lock, directory) == f"1 of its files are missing, such as {gone}"


def test_a_file_with_another_content_than_locked_is_named(tmp_path, kept):
    lock = locked(kept, tmp_path / "rack.key")
    assert tree.find_damaged(lock) is None

    changed = store.package(OS, kept["driver=1"])
    changed.write_bytes(changed.read_bytes() + b"more")
    assert tree.find_damaged(lock) == f"{changed} has another content than the SHA-256 in its path"


def test_a_copy_is_whole_and_keeps_what_older_locks_want(tmp_path, kept, serve):
    key_file = tmp_path / "rack.key"
    for version in ("1", "2"):
        lock = locked({f"driver={version}": kept[f"driver={version}"]}, key_file)
        tree.write(lock, tmp_path / "tree", key_file)
        tree.copy(lock, tmp_path / "tree", tmp_path / "copy")
    host = Host(tmp_path / "host", serve(tmp_path / "copy"), lock.key or "")

    assert host.apt("update", "--error-on=any").returncode == 0
    assert host.apt("install", "--download-only", "driver=2").returncode == 0
    assert {path.stem for path in (tmp_path / "copy").rglob("*.deb")} == set(kept.values())
    assert not [path for path in (tmp_path / "copy").rglob("*") if path.is_symlink()]


def test_a_key_stays_the_same_and_has_one_owner(tmp_path):
    path = tmp_path / "rack.key"
    public = key.public_key(path, "rack")

    assert key.public_key(path, "rack") == public
    assert path.stat().st_mode & 0o777 == 0o600
    assert "PRIVATE" not in public
    assert key.check(path, "rack", public) == public


def test_a_lock_whose_key_is_elsewhere_is_reported_with_the_next_step(tmp_path):
    public = key.public_key(tmp_path / "rack.key", "rack")

    with pytest.raises(
        key.ChangeRefused, match=r"the private key is missing; .* Copy other\.key from the computer that wrote the lock"
    ):
        key.check(tmp_path / "other.key", "rack", public)
    key.public_key(tmp_path / "other.key", "rack")
    with pytest.raises(key.ChangeRefused, match="the file has another private key"):
        key.check(tmp_path / "other.key", "rack", public)


def wheel(directory: Path, name: str, version: str, requires: str = "") -> Path:
    """Make a wheel with one module."""
    directory.mkdir(exist_ok=True)
    path, info = directory / f"{name}-{version}-py3-none-any.whl", f"{name}-{version}.dist-info"
    needs = f"Requires-Dist: {requires}\n" if requires else ""
    with zipfile.ZipFile(path, "w") as file:
        file.writestr(f"{name}.py", f"version = {version!r}\n")
        file.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{needs}")
        file.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        file.writestr(f"{info}/RECORD", "")
    return path


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """All that pip knows."""
    monkeypatch.setenv("RACKWRIGHT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "index"))
    monkeypatch.setenv("PIP_NO_BUILD_ISOLATION", "0")  # which pip reads as: without
    for name in ("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "PIP_CONFIG_FILE"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "index").mkdir()
    return tmp_path / "index"


BUILD = """\
[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"
[tool.hatch.build.targets.wheel]
bypass-selection = true
"""


def source(directory: Path, name: str, version: str) -> Path:
    """Make a source that has to be built where it is used."""
    path = directory / f"{name}-{version}.tar.gz"
    files = {
        "pyproject.toml": f"{BUILD}[project]\nname = {name!r}\nversion = {version!r}\n",
        "PKG-INFO": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
    }
    with tarfile.open(path, "w:gz") as archive:
        for file, text in files.items():
            entry = tarfile.TarInfo(f"{name}-{version}/{file}")
            entry.size = len(text)
            archive.addfile(entry, io.BytesIO(text.encode()))
    return path


def listed(*paths: Path) -> str:
    """Return the list that has these files and no others."""
    lines = []
    for path in paths:
        name, version = path.name.removesuffix(".tar.gz").split("-")[:2]
        lines += [f"--no-binary {name}"] if path.suffix == ".gz" else []
        lines.append(f"{name}=={version} --hash=sha256:{sha256(path)}")
    return "\n".join([*lines, ""])


def test_files_for_python_are_locked_kept_and_served(tmp_path, mirror, index, serve, monkeypatch):
    """
    A list may have a source, too; what another list has in another version stands beside it.
    """
    files = [wheel(index, "model_zoo", "1.0", "tool"), wheel(index, "tool", "2.0"), source(index, "built", "0.1")]
    one, other = listed(*files), listed(wheel(index, "tool", "3.0"))
    found = wheels.resolve([one, other])
    assert found == {path.name: sha256(path) for path in index.iterdir()}
    wheels.fetch(found)
    shutil.rmtree(index)
    assert wheels.resolve([one, other]) == found, "what was kept can be had no more anywhere else"

    tree.write(locked({}, tmp_path / "rack.key", wheels=found), tmp_path / "tree", tmp_path / "rack.key")
    monkeypatch.delenv("PIP_NO_INDEX")
    monkeypatch.delenv("PIP_FIND_LINKS")
    (tmp_path / "list.txt").write_text(one)
    argv = [sys.executable, "-m", "pip", "download", "--index-url", f"{serve(tmp_path / 'tree')}simple/", "--dest"]
    subprocess.run([*argv, tmp_path / "got", "-r", tmp_path / "list.txt"], check=True, capture_output=True)
    assert {path.name for path in (tmp_path / "got").iterdir()} == {path.name for path in files}


def test_files_that_no_source_has_are_refused(index):
    with pytest.raises(wheels.ChangeRefused, match=r"pip cannot resolve the packages: .*zoo"):
        wheels.resolve([f"zoo==1.0 --hash=sha256:{'0' * 64}\n"])
