"""The probe's digests of unchanged files: used again, and never believed where another account could have made them."""

import os
import time
from pathlib import Path

import pytest

from rackwright.facts.digest import digest
from rackwright.facts.probe import digest_cache, system
from rackwright.facts.probe.digest_cache import FOLDER, NAME, write
from tests.support.fabricated_machine import FabricatedMachine

SALT, FALSE = b"salt", "f" * 32
"""A digest that no file has: the cache's where it is reported."""
PATH, CONTENT, OTHER = "/etc/application.conf", b"content", b"another"
pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="the probe keeps digests as root only")


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FabricatedMachine:
    """A host with one file, and a cache of its false digest."""
    machine = FabricatedMachine(tmp_path)
    machine.write(PATH[1:], CONTENT)
    (machine.root / "var/cache").mkdir(parents=True)
    monkeypatch.setattr(digest_cache, "SETTLED_SECONDS", 0)
    monkeypatch.setattr(digest_cache, "kept_devices", lambda: frozenset({tmp_path.stat().st_dev}))
    read(machine)
    keep(machine)
    return machine


def cache_of(machine: FabricatedMachine) -> Path:
    return machine.root / FOLDER[1:] / NAME


def keep(machine: FabricatedMachine, salt: bytes = SALT) -> None:
    """Write a cache in which the present file has a false digest."""
    status = os.lstat(machine.top + PATH)
    state = (status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_dev)
    write(str(cache_of(machine)), {PATH: f"{' '.join(map(str, state))} {FALSE}"}, salt)


def read(machine: FabricatedMachine, salt: bytes = SALT) -> str:
    files, _ = system.tree(machine.top, salt)
    value: str = files[PATH]["digest"]
    return value


def test_the_digest_of_an_unchanged_file_is_used_again(machine):
    assert read(machine) == FALSE
    assert read(machine) == FALSE


def test_the_next_probe_uses_the_digests_of_this_one(machine, monkeypatch):
    cache_of(machine).unlink()
    assert read(machine) == digest(CONTENT, SALT)

    monkeypatch.setattr(system, "read_untrusted", lambda *arguments: pytest.fail("the file is read again"))
    assert read(machine) == digest(CONTENT, SALT)


def test_a_changed_content_with_the_old_size_and_time_is_found(machine):
    path = Path(machine.top + PATH)
    before = path.stat()
    path.write_bytes(OTHER)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))

    assert (path.stat().st_size, path.stat().st_mtime_ns) == (before.st_size, before.st_mtime_ns)
    assert read(machine) == digest(OTHER, SALT)


def test_another_file_of_that_name_is_found(machine):
    other = Path(machine.top + "/etc/other")
    other.write_bytes(OTHER)
    other.rename(machine.top + PATH)

    assert read(machine) == digest(OTHER, SALT)


def spoil_mode(machine: FabricatedMachine) -> None:
    cache_of(machine).chmod(0o620)


def spoil_owner(machine: FabricatedMachine) -> None:
    os.chown(cache_of(machine), 65534, 0)


def spoil_folder(machine: FabricatedMachine) -> None:
    cache_of(machine).parent.chmod(0o770)


def spoil_folder_owner(machine: FabricatedMachine) -> None:
    os.chown(cache_of(machine).parent, 65534, 0)


def spoil_parent(machine: FabricatedMachine) -> None:
    cache_of(machine).parent.parent.chmod(0o777)


def spoil_link(machine: FabricatedMachine) -> None:
    moved = cache_of(machine).rename(machine.root / "moved")
    cache_of(machine).symlink_to(moved)


def spoil_hard_link(machine: FabricatedMachine) -> None:
    (machine.root / "second").hardlink_to(cache_of(machine))


def spoil_content(machine: FabricatedMachine) -> None:
    kept = cache_of(machine).read_bytes()
    cache_of(machine).write_bytes(kept.replace(b"ff", b"fe", 1))


def spoil_end(machine: FabricatedMachine) -> None:
    cache_of(machine).write_bytes(cache_of(machine).read_bytes()[:-1])


def spoil_key(machine: FabricatedMachine) -> None:
    keep(machine, b"the salt of another fleet")


def spoil_kind(machine: FabricatedMachine) -> None:
    cache_of(machine).unlink()
    os.mkfifo(cache_of(machine), 0o600)


@pytest.mark.parametrize(
    "spoil",
    [
        spoil_mode, spoil_owner, spoil_folder, spoil_folder_owner, spoil_parent, spoil_link, spoil_hard_link,
        spoil_content, spoil_end, spoil_key, spoil_kind,
    ],
)  # fmt: skip
def test_a_cache_that_another_account_could_write_is_not_believed(machine, spoil):
    spoil(machine)

    assert read(machine) == digest(CONTENT, SALT)


def test_the_digest_of_a_file_that_changed_lately_is_not_kept(machine, monkeypatch):
    cache_of(machine).unlink()
    monkeypatch.setattr(digest_cache, "SETTLED_SECONDS", 3600)

    assert read(machine) == digest(CONTENT, SALT)
    assert not cache_of(machine).exists()


def test_no_digest_of_another_filesystem_is_kept(machine, monkeypatch):
    monkeypatch.setattr(digest_cache, "kept_devices", frozenset)

    assert read(machine) == digest(CONTENT, SALT)


def test_an_account_that_is_not_root_keeps_nothing(machine, monkeypatch):
    cache_of(machine).unlink()
    monkeypatch.setattr(os, "geteuid", lambda: 1000)

    assert read(machine) == digest(CONTENT, SALT)
    assert not cache_of(machine).exists()


def test_a_host_without_the_folder_of_caches_gets_none(machine):
    cache_of(machine).unlink()
    cache_of(machine).parent.rmdir()
    cache_of(machine).parent.parent.rmdir()

    assert read(machine) == digest(CONTENT, SALT)
    assert not cache_of(machine).parent.parent.exists()


def test_a_full_disk_changes_no_fact(machine, monkeypatch):
    def refuse(*arguments: object) -> None:
        raise OSError(28, "No space left on device")

    cache_of(machine).unlink()
    monkeypatch.setattr(os, "rename", refuse)

    assert read(machine) == digest(CONTENT, SALT)
    assert [*cache_of(machine).parent.iterdir()] == []


@pytest.mark.parametrize("age_seconds", [0, 2 * digest_cache.STALE_SECONDS])
def test_the_file_of_another_probe_that_writes_stays_until_it_is_old(machine, age_seconds):
    Path(machine.top + PATH).write_bytes(OTHER)
    (half := Path(f"{cache_of(machine)}.new")).write_bytes(b"half")
    made = half.stat().st_mtime - age_seconds
    os.utime(half, (made, made))
    before = cache_of(machine).read_bytes()

    assert read(machine) == digest(OTHER, SALT)
    assert cache_of(machine).read_bytes() == before
    assert half.exists() is (age_seconds == 0)


def test_the_devices_are_those_of_filesystems_with_times_of_this_kernel():
    devices = digest_cache.kept_devices()

    assert Path("/proc").stat().st_dev not in devices
    assert Path("/sys").stat().st_dev not in devices


def spans(machine: FabricatedMachine) -> list[list[int]]:
    """Return the times for which the next probe knows that the file had its present content."""
    changes = system.Changes(0)
    system.tree(machine.top, SALT, changes)
    return changes.spans.get(PATH, [])


def changed_ns(machine: FabricatedMachine) -> int:
    return os.lstat(machine.top + PATH).st_ctime_ns


def test_a_file_that_was_touched_has_had_its_content_since_its_earlier_change(machine):
    """
    The kernel notes a change, and nothing said that the content is that of before.
    """
    cache_of(machine).unlink()
    path, first, before = Path(machine.top + PATH), changed_ns(machine), time.time_ns()
    assert spans(machine) == []
    touched = time.time_ns()  # the kernel notes a change by a clock that is some milliseconds late
    path.touch()
    [[start, end]] = spans(machine)
    assert start == first and before <= end <= touched
    assert spans(machine) == [[start, end]], "each later probe knows it as well"
    second, touched = changed_ns(machine), time.time_ns()
    path.chmod(path.stat().st_mode)
    found = spans(machine)
    assert found[0] == [start, end] and found[1][0] == second and found[1][1] <= touched


def test_between_two_probes_a_content_may_have_been_another_one(machine):
    cache_of(machine).unlink()
    path = Path(machine.top + PATH)
    spans(machine)
    path.write_bytes(OTHER)
    in_between = time.time_ns()
    path.write_bytes(CONTENT)
    assert all(not start <= in_between <= end for start, end in spans(machine))
    path.write_bytes(OTHER)
    assert spans(machine) == [], "another content has no times"


def test_a_file_that_changed_just_now_keeps_its_times(machine, monkeypatch):
    """
    Its digest is not used again before the kernel has written it; its times are.
    """
    cache_of(machine).unlink()
    spans(machine)
    Path(machine.top + PATH).touch()
    monkeypatch.setattr(digest_cache, "SETTLED_SECONDS", 3600)
    found = spans(machine)
    assert len(found) == 1 and spans(machine) == found and spans(machine) == found
    reads = []
    real = system.read_untrusted
    monkeypatch.setattr(system, "read_untrusted", lambda *each: reads.append(each) or real(*each))
    assert spans(machine) == found and reads, "the content is read again each time"
    monkeypatch.setattr(digest_cache, "SETTLED_SECONDS", 0)
    assert spans(machine) == found
    Path(machine.top + PATH).write_bytes(OTHER)
    assert spans(machine) == []


def test_the_times_of_a_content_are_bounded(machine):
    cache_of(machine).unlink()
    for _ in range(2 * digest_cache.SPANS):
        spans(machine)
        Path(machine.top + PATH).touch()
    assert len(spans(machine)) == digest_cache.SPANS
