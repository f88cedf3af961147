"""Heads at a second place: what is copied, and logs that are not those of the copied heads."""

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from rackwright.errors import HostUnreachable, SetupError
from rackwright.log.chain import check
from rackwright.log.copying import LogDiffers, copy_head
from rackwright.log.heads import Head, compare
from rackwright.log.places import GitBranch, LocalFile, Place, RemoteFile, parse_place
from rackwright.log.writer import OperationsLog
from tests.support.operations_log import log_with_key, new_key


@pytest.fixture
def log(tmp_path: Path) -> OperationsLog:
    log = log_with_key(tmp_path / "log", new_key(tmp_path / "key"))
    for number in range(3):
        log.append("began", {"operation": f"{number}"})
    return log


def local_file(tmp_path: Path) -> Place:
    return LocalFile(tmp_path / "heads")


def git_branch(tmp_path: Path) -> Place:
    subprocess.run(["git", "init", "-q", "--bare", tmp_path / "remote"], check=True)
    return parse_place(f"git+file://{tmp_path}/remote#heads/log")


def file_over_ssh(tmp_path: Path) -> Place:
    """Return a place whose ssh, which stands first in PATH, runs the script in a shell of this computer."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/ssh").write_text(f"""#!/bin/sh
printf '%s\\n' "$@" >> {tmp_path}/arguments
for last; do :; done
exec sh -c "$last"
""")
    (tmp_path / "bin/ssh").chmod(0o755)
    return parse_place(f"ssh://log@vault:2222{tmp_path}/it's%20heads")


PLACES = pytest.mark.parametrize("make", [local_file, git_branch, file_over_ssh])


@pytest.fixture(autouse=True)
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:{os.environ['PATH']}")


@PLACES
def test_each_head_is_copied_once(tmp_path: Path, log: OperationsLog, make: Callable[[Path], Place]) -> None:
    place = make(tmp_path)
    assert place.read() == b""
    copy_head(log.path, place)
    copy_head(log.path, place)
    log.append("ended", {"operation": "2"})
    copy_head(log.path, place)

    heads = [Head.parse(line) for line in place.read().splitlines()]
    assert [head.sequence for head in heads if head] == [3, 4]
    comparison = compare(check(log.path.read_bytes()), place.read())
    assert (comparison.copied, comparison.broken, comparison.unreadable) == (4, None, ())


@PLACES
def test_a_log_that_lost_its_end_gets_no_new_head(
    tmp_path: Path, log: OperationsLog, make: Callable[[Path], Place]
) -> None:
    place = make(tmp_path)
    copy_head(log.path, place)
    before = place.read()
    lines = log.path.read_bytes().splitlines(keepends=True)
    log.path.write_bytes(b"".join(lines[:-1]))

    with pytest.raises(LogDiffers, match="entry 3 there is another one"):
        copy_head(log.path, place)
    log_with_key(tmp_path / "log", tmp_path / "key").append("began", {"operation": "another"})
    with pytest.raises(LogDiffers, match="entry 3 there is another one"):
        copy_head(log.path, place)
    assert place.read() == before


def test_a_head_by_an_unknown_key_gets_no_head_after_it(tmp_path: Path, log: OperationsLog) -> None:
    """The log may have lost the entry that added the key."""
    place = local_file(tmp_path)
    content = log.path.read_bytes()
    log.append("key_added", {"key": new_key(tmp_path / "second").with_name("second.pub").read_text()})
    log_with_key(tmp_path / "log", tmp_path / "second").append("began", {"operation": "4"})
    copy_head(log.path, place)
    log.path.write_bytes(content)

    with pytest.raises(LogDiffers, match="the head of entry 5 at .* is not signed by a key of this log"):
        copy_head(log.path, place)


def test_a_head_names_no_host_and_no_person(tmp_path: Path, log: OperationsLog) -> None:
    place = local_file(tmp_path)
    copy_head(log.path, place)

    assert {*json.loads(place.read())} == {"log", "sequence", "hash", "key", "signature"}


def test_ssh_asks_no_question_and_names_the_port(tmp_path: Path, log: OperationsLog) -> None:
    copy_head(log.path, file_over_ssh(tmp_path))

    arguments = (tmp_path / "arguments").read_text().splitlines()
    assert arguments[:8] == ["-o", "BatchMode=yes", "-o", "ConnectTimeout=10", "-p", "2222", "--", "log@vault"]
    assert (tmp_path / "it's heads").stat().st_mode & 0o777 == 0o600


def test_heads_of_other_logs_at_the_same_place_are_left_alone(tmp_path: Path, log: OperationsLog) -> None:
    place = local_file(tmp_path)
    other = log_with_key(tmp_path / "other", new_key(tmp_path / "other-key"))
    other.append("began", {"operation": "1"})
    copy_head(other.path, place)
    copy_head(log.path, place)

    for each, copied in ((log, 3), (other, 1)):
        comparison = compare(check(each.path.read_bytes()), place.read())
        assert (comparison.copied, comparison.broken, comparison.unreadable) == (copied, None, ())


def test_a_commit_of_another_writer_is_no_obstacle(
    tmp_path: Path, log: OperationsLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another log pushes between the fetch and the push of the first attempt."""
    place = git_branch(tmp_path)
    other = log_with_key(tmp_path / "other", new_key(tmp_path / "other-key"))
    other.append("began", {"operation": "1"})
    fetch, pending = GitBranch._fetch, [True, True]

    def fetch_and_be_overtaken(self: GitBranch, folder: str) -> tuple[str, bytes]:
        result = fetch(self, folder)
        if len(pending) == 1:  # the second fetch is that of the append
            pending.clear()
            copy_head(other.path, place)
        elif pending:
            pending.pop()
        return result

    monkeypatch.setattr(GitBranch, "_fetch", fetch_and_be_overtaken)
    copy_head(log.path, place)

    assert pending == []
    assert len(place.read().splitlines()) == 2


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("/srv/heads", LocalFile(Path("/srv/heads"))),
        ("ssh://vault/srv/heads", RemoteFile("ssh://vault/srv/heads", "vault", None, "/srv/heads")),
        (
            "ssh://log@vault:2222/srv/it's",
            RemoteFile("ssh://log@vault:2222/srv/it's", "log@vault", 2222, "/srv/it's"),
        ),
        ("git+https://git/x.git", GitBranch("git+https://git/x.git", "https://git/x.git", "rackwright-log-heads")),
        ("git+git@host:x.git#b", GitBranch("git+git@host:x.git#b", "git@host:x.git", "b")),
    ],
)
def test_a_second_place_has_one_of_several_forms(text: str, place: Place) -> None:
    assert parse_place(text) == place


@pytest.mark.parametrize(
    "text", ["", "s3://bucket/heads", "ssh://vault", "ssh://-oProxyCommand=x/p", "git+--upload-pack=x", "git+u#-x"]
)
def test_another_form_is_refused(text: str) -> None:
    with pytest.raises(SetupError, match="no second place"):
        parse_place(text)


def test_a_place_that_does_not_answer_is_not_reached(tmp_path: Path, log: OperationsLog) -> None:
    for text in (f"git+file://{tmp_path}/absent", f"{tmp_path}/absent/heads"):
        with pytest.raises(HostUnreachable, match="second place"):
            copy_head(log.path, parse_place(text))
