"""Packages that come to a host through our connection to it."""

import contextlib
import http.client
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from rackwright.core.contract import PlayRole
from rackwright.hosts.local_repository import answer, bringing
from rackwright.hosts.session import NotDone
from rackwright.schema.mirror import PORT

STEP = PlayRole("play role base", "base", {})


class Connection:
    """One over which a host listens, or may not."""

    def __init__(self, refused: str = "") -> None:
        self.refused, self.ports = refused, []

    @contextlib.contextmanager
    def listening(self, port: int, answer: object) -> Iterator[None]:
        if self.refused:
            raise OSError(self.refused)
        self.ports.append(port)
        try:
            yield
        finally:
            self.ports.remove(port)


class Hosts:
    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def connection(self, host: str) -> Connection:
        return self._connection


def asked(directory: Path, *paths: str) -> list[tuple[int, bytes]]:
    """Return what is answered to requests for *paths*, which all come over one channel."""
    ours, theirs = socket.socketpair()
    answer(directory, ours)
    connection = http.client.HTTPConnection("127.0.0.1")
    connection.sock = theirs
    found = []
    for path in paths:
        connection.request("GET", path)
        response = connection.getresponse()
        found.append((response.status, response.read()))
    theirs.close()
    return found


def test_files_come_over_one_channel_one_after_the_other(tmp_path):
    (tmp_path / "tree").mkdir()
    large = b"x" * 3_000_000
    (tmp_path / "kept.deb").write_bytes(large)
    (tmp_path / "tree" / "pool").symlink_to(tmp_path)
    (tmp_path / "tree" / "InRelease").write_text("signed")

    assert asked(tmp_path / "tree", "/InRelease", "/pool/kept.deb", "/InRelease") == [
        (200, b"signed"),
        (200, large),
        (200, b"signed"),
    ]
    assert [asked(tmp_path / "tree", path)[0][0] for path in ("/nothing", "/../kept.deb")] == [404, 404]


def test_a_role_is_played_while_the_host_listens_and_no_longer(tmp_path):
    connection, seen = Connection(), []
    play = bringing(
        lambda step, host, say: seen.append(list(connection.ports)), Hosts(connection), tmp_path, lambda: None
    )

    play(STEP, "alpha", lambda text: None)

    assert seen == [[PORT]]
    assert connection.ports == []


def test_a_role_that_fails_leaves_no_listener(tmp_path):
    connection = Connection()

    def fail(step: object, host: str, say: object) -> None:
        raise NotDone("no")

    with pytest.raises(NotDone):
        bringing(fail, Hosts(connection), tmp_path, lambda: None)(STEP, "alpha", lambda text: None)
    assert connection.ports == []


def test_where_a_file_is_missing_nothing_is_played(tmp_path):
    played: list[str] = []
    play = bringing(
        lambda step, host, say: played.append(host), Hosts(Connection()), tmp_path, lambda: "2 of its files are missing"
    )

    with pytest.raises(NotDone, match="2 of its files are missing. Run `rackwright lock --fetch` first"):
        play(STEP, "alpha", lambda text: None)
    assert not played


def test_a_host_that_does_not_listen_is_reported_and_played(tmp_path):
    """It may have all that it needs: the role that lets it listen has to be played somehow."""
    played: list[str] = []
    messages: list[str] = []
    play = bringing(
        lambda step, host, say: played.append(host), Hosts(Connection("forwarding is off")), tmp_path, lambda: None
    )

    play(STEP, "alpha", messages.append)

    assert played == ["alpha"]
    assert messages == ["packages cannot be brought to it: forwarding is off"]
