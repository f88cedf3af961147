"""The official archive: taken only if it is the pinned one, and gone on with where a download broke off."""

import hashlib
import io
import platform
import re
import tarfile
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from rackwright.toolchain import ensure, pins, release
from rackwright.toolchain.sources import NODEJS, PROGRAMS

SYSTEM = f"linux-{release.ARCHITECTURES.get(platform.machine())}"


def archive_of(names):
    """Return an archive as Pulumi makes it, with more in it than is wanted."""
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w:gz") as tar:
        for name in (*names, "pulumi-language-go"):
            script = f"#!/bin/sh\necho {pins.RELEASE}\n".encode()
            member = tarfile.TarInfo(f"pulumi/{name}")
            member.size = len(script)
            tar.addfile(member, io.BytesIO(script))
    return content.getvalue()


class Site(ThreadingHTTPServer):
    """Serves one archive, from the byte that is asked for; breaks off after *limit* bytes."""

    def __init__(self, archive: bytes) -> None:
        self.archive, self.limit = archive, len(archive)
        self.ranges: list[str | None] = []
        super().__init__(("127.0.0.1", 0), Handler)


class Handler(BaseHTTPRequestHandler):
    server: Site

    def do_GET(self):
        site = self.server
        site.ranges.append(self.headers["Range"])
        begin = int(re.sub(r"\D", "", self.headers["Range"] or "0"))
        self.send_response(206 if begin else 200)
        self.send_header("Content-Length", str(len(site.archive) - begin))
        self.end_headers()
        self.wfile.write(site.archive[begin : site.limit])

    def log_message(self, *_):
        pass


@pytest.fixture
def site(computer, monkeypatch):
    """A site with a good archive, whose checksum is pinned."""
    archive = archive_of((*PROGRAMS, NODEJS))
    with Site(archive) as site:
        monkeypatch.setattr(pins, "RELEASE_URL", f"http://127.0.0.1:{site.server_port}/{{version}}-{{platform}}")
        monkeypatch.setattr(pins, "RELEASE_SHA256", {SYSTEM: hashlib.sha256(archive).hexdigest()})
        thread = threading.Thread(target=site.serve_forever, args=(0.01,))
        thread.start()
        yield site
        site.shutdown()
        thread.join()


def test_the_release_comes_before_the_modules(computer, site):
    """
    Only the programs of our languages are taken out, and the archive is not kept.
    """
    computer.put_go()

    toolchain = ensure(print)

    assert (toolchain.origin, toolchain.version) == ("release", pins.RELEASE)
    assert {path.name for path in toolchain.directory.iterdir()} == {*PROGRAMS, NODEJS}
    assert {path.name for path in toolchain.directory.parent.iterdir()} == {"lock", toolchain.directory.name}
    assert computer.builds == []


def test_a_broken_download_is_gone_on_with(computer, site):
    """
    The second run asks for the bytes that are missing, and no others.
    """
    computer.put_go(before="exit 1")
    site.limit = 100
    messages: list[str] = []
    with pytest.raises(Exception, match="it ended after 100 of"):
        ensure(messages.append)

    site.limit = len(site.archive)

    assert ensure(print).origin == "release"
    assert site.ranges == [None, "bytes=100-"]


def test_an_archive_that_is_not_the_pinned_one_is_thrown_away(computer, site):
    """
    The error has its checksum and the pinned one; then the modules are built, which have checksums of their own.
    """
    computer.put_go()
    site.archive = archive_of(("pulumi",))
    messages: list[str] = []

    toolchain = ensure(messages.append)

    assert toolchain.origin == "modules"
    assert hashlib.sha256(site.archive).hexdigest() in "".join(messages)
    assert {path.name for path in toolchain.directory.parent.iterdir()} == {"lock", toolchain.directory.name}


def test_a_site_that_is_not_there_is_reported_and_passed_over(computer, site, monkeypatch):
    """
    As on a machine that reaches nothing but its own mirrors.
    """
    computer.put_go()
    monkeypatch.setattr(pins, "RELEASE_URL", "http://127.0.0.1:1/{version}-{platform}")
    messages: list[str] = []

    assert ensure(messages.append).origin == "modules"
    assert "the download of" in "".join(messages)


def test_an_archive_without_a_program_is_passed_over(computer, site, monkeypatch):
    """
    A release that brings its language host in another way would be noticed here.
    """
    computer.put_go()
    site.archive = archive_of(("pulumi",))
    site.limit = len(site.archive)
    monkeypatch.setattr(pins, "RELEASE_SHA256", {SYSTEM: hashlib.sha256(site.archive).hexdigest()})
    messages: list[str] = []

    assert ensure(messages.append).origin == "modules"
    assert "there is no pulumi-language-python in it" in "".join(messages)
