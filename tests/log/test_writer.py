"""The writer: several processes at once, a full disk, killed processes, and keys that may not write."""

import json
import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from rackwright.errors import ChangeRefused
from rackwright.log import writer
from rackwright.log.chain import check, unfinished_operations
from rackwright.log.writer import LogNotWritten, directory
from tests.support.operations_log import log_with_key, new_key

PROCESSES, EACH = 4, 25
WRITE = """
import os, signal, sys
from pathlib import Path
from tests.support.operations_log import log_with_key
log = log_with_key(Path(sys.argv[1]), Path(sys.argv[2]))
"""
APPEND = f"""
sys.stdin.read()
for number in range({EACH}):
    log.append("began", {{"operation": f"{{os.getpid()}}-{{number}}", "command": "up"}})
"""
DIE_IN_THE_MIDDLE = """
write = os.pwrite
def half(file, content, offset):
    write(file, content[: len(content) // 2], offset)
    os.kill(os.getpid(), signal.SIGKILL)
os.pwrite = half
log.append("began", {"operation": "killed", "command": "up"})
"""


def write_in_process(script: str, folder: Path, key: Path) -> "subprocess.Popen[bytes]":
    argv = [sys.executable, "-c", WRITE + script, str(folder), str(key)]
    return subprocess.Popen(argv, stdin=subprocess.PIPE, cwd=Path(__file__).parents[2])


@pytest.fixture
def key(tmp_path: Path) -> Path:
    return new_key(tmp_path / "key")


def test_processes_that_write_at_once_leave_a_whole_log(tmp_path: Path, key: Path) -> None:
    folder = tmp_path / "log"
    processes = [write_in_process(APPEND, folder, key) for _ in range(PROCESSES)]
    for process in processes:  # all have imported their modules, and begin together
        assert process.stdin is not None
        process.stdin.close()

    assert [process.wait() for process in processes] == [0] * PROCESSES
    chain = check((folder / "operations.jsonl").read_bytes())
    assert chain.broken is None
    operations = {entry["operation"] for entry in chain.entries[1:]}
    assert len(chain.entries) == 1 + PROCESSES * EACH and len(operations) == PROCESSES * EACH


def test_two_writers_of_one_process_see_each_others_entries(tmp_path: Path, key: Path) -> None:
    first, second = (log_with_key(tmp_path / "log", key) for _ in range(2))
    for each in (first, second, first, second):
        each.append("began", {"operation": "1"})

    chain = check(first.path.read_bytes())
    assert chain.broken is None and len(chain.entries) == 5


def test_a_full_disk_leaves_the_log_as_it_was(tmp_path: Path, key: Path) -> None:
    """The limit of a file's size stands for the disk: the kernel writes a part, and then refuses."""
    log = log_with_key(tmp_path / "log", key)
    log.append("began", {"operation": "1"})
    before = log.path.read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) + 100, limits[1]))
    try:
        with pytest.raises(LogNotWritten) as refused:
            log.append("began", {"operation": "2"})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)

    assert log.path.read_bytes() == before
    assert refused.value.diagnostic.problem == "the log cannot be written: File too large"
    assert refused.value.diagnostic.help == "Free space on that disk, and run the command again"
    log.append("ended", {"operation": "1"})
    assert check(log.path.read_bytes()).broken is None


def test_a_full_disk_leaves_no_empty_log(tmp_path: Path, key: Path) -> None:
    log = log_with_key(tmp_path / "log", key)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, limits[1]))
    try:
        with pytest.raises(LogNotWritten):
            log.append("began", {"operation": "1"})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)

    assert not log.path.exists()


def test_a_writer_that_dies_in_the_middle_of_a_line_is_recorded(tmp_path: Path, key: Path) -> None:
    log = log_with_key(tmp_path / "log", key)
    log.append("began", {"operation": "1", "command": "up"})
    whole = log.path.read_bytes()
    process = write_in_process(DIE_IN_THE_MIDDLE, tmp_path / "log", key)

    assert process.wait() == -signal.SIGKILL
    fragment = log.path.read_bytes().removeprefix(whole)
    assert fragment and check(log.path.read_bytes()).broken is not None
    log.append("began", {"operation": "2", "command": "up"})
    chain = check(log.path.read_bytes())
    assert chain.broken is None
    assert [entry["event"] for entry in chain.entries] == ["log_started", "began", "recovered", "began"]
    found = chain.entries[2]["fragment"]
    assert (found["start"], found["bytes"]) == (fragment.decode(), len(fragment))


def test_a_first_writer_that_dies_in_its_line_leaves_a_log_that_can_start(tmp_path: Path, key: Path) -> None:
    assert write_in_process(DIE_IN_THE_MIDDLE, tmp_path / "log", key).wait() == -signal.SIGKILL
    log = log_with_key(tmp_path / "log", key)
    log.append("began", {"operation": "1"})

    chain = check(log.path.read_bytes())
    assert chain.broken is None
    assert [entry["event"] for entry in chain.entries] == ["log_started", "recovered", "began"]


def test_an_operation_without_an_end_shows(tmp_path: Path, key: Path) -> None:
    log = log_with_key(tmp_path / "log", key)
    for event, operation in (("began", "1"), ("began", "2"), ("ended", "1")):
        log.append(event, {"operation": operation})

    assert [entry["operation"] for entry in unfinished_operations(check(log.path.read_bytes()).entries)] == ["2"]


def test_a_changed_last_line_stops_the_writer(tmp_path: Path, key: Path) -> None:
    log = log_with_key(tmp_path / "log", key)
    log.append("began", {"operation": "1"})
    content = log.path.read_bytes()
    changed = content.replace(b'"operation":"1"', b'"operation":"2"')
    log.path.write_bytes(changed)

    with pytest.raises(LogNotWritten, match=r"the log is not whole: line 2: edited"):
        log_with_key(tmp_path / "log", key).append("began", {"operation": "3"})
    assert log.path.read_bytes() == changed


def test_a_line_that_another_program_appends_stops_a_writer_that_runs(tmp_path: Path, key: Path) -> None:
    log = log_with_key(tmp_path / "log", key)
    log.append("began", {"operation": "1"})
    with log.path.open("ab") as file:
        file.write(log.path.read_bytes().splitlines(keepends=True)[-1])

    with pytest.raises(LogNotWritten, match=r"the log is not whole: line 3, entry 1: inserted"):
        log.append("began", {"operation": "2"})


def test_an_end_that_is_cut_off_stops_a_writer_that_runs(tmp_path: Path, key: Path) -> None:
    log = log_with_key(tmp_path / "log", key)
    for number in range(3):
        log.append("began", {"operation": f"{number}"})
    os.truncate(log.path, len(b"".join(log.path.read_bytes().splitlines(keepends=True)[:-1])))

    with pytest.raises(LogNotWritten, match="truncated"):
        log.append("began", {"operation": "4"})


def test_an_interrupted_restart_is_repeated(tmp_path: Path, key: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = log_with_key(tmp_path / "log", key)
    log.append("began", {"operation": "1"})

    def interrupt(*arguments: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as interrupted, pytest.raises(KeyboardInterrupt):
        interrupted.setattr(writer, "write_atomic", interrupt)
        log.start_again("broken")
    assert len(check(log.path.read_bytes()).entries) == 2
    log.start_again("broken")

    assert check(log.path.read_bytes()).entries[0]["reason"] == "broken"


@pytest.mark.parametrize("revoked", [False, True])
def test_a_key_that_may_not_write_is_refused_by_name(tmp_path: Path, key: Path, revoked: bool) -> None:
    other = new_key(tmp_path / "other")
    log = log_with_key(tmp_path / "log", key)
    log.append("began", {"operation": "1"})
    if revoked:
        log.append("key_added", {"key": (tmp_path / "other.pub").read_text()})
        fingerprint = list(check(log.path.read_bytes()).state.keys)[1]
        log.append("key_revoked", {"key": fingerprint, "reason": "lost"})
    before = log.path.read_bytes()

    with pytest.raises(LogNotWritten, match="was revoked" if revoked else "may not write this log"):
        log_with_key(tmp_path / "log", other).append("began", {"operation": "2"})
    assert log.path.read_bytes() == before


def test_a_key_that_cannot_be_used_leaves_no_file(tmp_path: Path) -> None:
    log = log_with_key(tmp_path / "log", tmp_path / "absent")

    with pytest.raises(LogNotWritten, match="the file cannot be read"):
        log.append("began", {"operation": "1"})
    assert not log.path.exists()


def test_a_log_that_starts_again_names_the_old_file(tmp_path: Path, key: Path) -> None:
    log = log_with_key(tmp_path / "log", key)
    log.append("began", {"operation": "1"})
    old = log.path.read_bytes()
    aside = log.start_again("it was broken")
    log.append("began", {"operation": "2"})

    chain = check(log.path.read_bytes())
    assert aside.read_bytes() == old and chain.broken is None
    first = chain.entries[0]
    assert (first["replaces"]["file"], first["replaces"]["lines"], first["reason"]) == (aside.name, 2, "it was broken")
    assert first["log"] != json.loads(old.splitlines()[0])["entry"]["log"]


def test_a_log_that_does_not_exist_cannot_start_again(tmp_path: Path, key: Path) -> None:
    with pytest.raises(ChangeRefused, match="there is no operations log"):
        log_with_key(tmp_path / "log", key).start_again("why")


def test_the_directory_is_that_of_the_project_or_of_the_account(tmp_path: Path) -> None:
    home = os.fspath(tmp_path)

    assert directory(tmp_path, {}) == tmp_path / ".rackwright" / "log"
    assert directory(None, {"XDG_STATE_HOME": home}) == tmp_path / "rackwright" / "log"
    assert directory(tmp_path, {"RACKWRIGHT_LOG": "/srv/log"}) == Path("/srv/log")
