"""A mirror of a few small packages, which stands for the mirrors of this computer."""

import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache, partial
from hashlib import sha256
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from rackwright.lock import apt

OS = "debian-12"


class Mirror:
    """A folder of packages that apt can read."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        directory.mkdir()
        self._entries: dict[Path, bytes] = {}
        self._index()

    def add(self, name: str, version: str, depends: str = "", content: str = "") -> Path:
        """Offer a package; return its file."""
        path = self.directory / _file_name(name, version)
        package, self._entries[path] = _build(name, version, depends, content)
        path.write_bytes(package)
        self._index()
        return path

    def drop(self, path: Path) -> None:
        """Offer the package in the file *path* no longer."""
        path.unlink()
        del self._entries[path]
        self._index()

    def _index(self) -> None:
        (self.directory / "Packages").write_bytes(b"".join(self._entries[path] for path in sorted(self._entries)))


def _file_name(name: str, version: str) -> str:
    return f"{name}_{version}_all.deb"


@cache
def _build(name: str, version: str, depends: str, content: str) -> tuple[bytes, bytes]:
    """Return a package, and its entry of an index: dozens of tests offer the same ones."""
    fields = {"Package": name, "Version": version, "Architecture": "all", "Maintainer": "nobody <a@b.example>"}
    fields |= {"Depends": depends} if depends else {}
    message = "".join(f"{field}: {value}\n" for field, value in fields.items())
    with TemporaryDirectory() as directory:
        files, offered = Path(directory, "files"), Path(directory, "offered")
        offered.mkdir()
        (files / "DEBIAN").mkdir(parents=True)
        (files / "DEBIAN/control").write_text(f"{message}Description: a package\n of the tests\n")
        (files / "usr/share" / name).mkdir(parents=True)
        (files / "usr/share" / name / "content").write_text(content or f"{name} {version}\n")
        path = offered / _file_name(name, version)
        subprocess.run(["dpkg-deb", "--build", "--root-owner-group", str(files), str(path)], check=True, stdout=-3)
        package = path.read_bytes()
        entry = f"{message}Filename: ./{path.name}\nSize: {len(package)}\nSHA256: {sha256(package).hexdigest()}\n\n"
        return package, entry.encode()


@pytest.fixture
def mirror(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Mirror:
    """The only mirror that apt of this computer names; the cache is empty."""
    monkeypatch.setenv("RACKWRIGHT_CACHE", str(tmp_path / "cache"))
    place = tmp_path / "mirror"
    monkeypatch.setattr(apt, "mirrors", lambda suite, components: [f"deb [trusted=yes] file:{place} ./"])
    return Mirror(place)


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        pass


@contextmanager
def serve_vendor(vendor: Mirror) -> Iterator[str]:
    """Serve *vendor* from an address of its own, as apt's preferences know a vendor by its host; yield the URL."""
    server = ThreadingHTTPServer(("127.0.0.2", 0), partial(_Quiet, directory=str(vendor.directory)))
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    try:
        yield f"http://127.0.0.2:{server.server_port}/"
    finally:
        server.shutdown()
        server.server_close()
