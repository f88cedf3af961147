"""The hash chain of the audit log: what auditd does leaves it whole, and each sort of tampering is found and named."""

import json
import os
import subprocess
from itertools import pairwise
from pathlib import Path

import pytest

from rackwright.facts.digest import CHAIN_HASH_LETTERS
from rackwright.facts.log_append import append
from rackwright.facts.probe.log_chain import log_chain
from rackwright.facts.probe.log_segments import CHAIN, CONFIG, FOLDER, MIB, hash_of
from rackwright.facts.program import log_chain_program

KEPT = 3


class AuditedHost:
    """A directory with an audit log, which it writes as auditd does."""

    def __init__(self, root: Path) -> None:
        self.root, self.top = root, str(root)
        self.folder, self.chain = root / FOLDER[1:], root / CHAIN[1:]
        self.folder.mkdir(parents=True)
        (root / CONFIG[1:]).parent.mkdir(parents=True)
        (root / CONFIG[1:]).write_text(f"log_file = /var/log/audit/audit.log\nnum_logs = {KEPT}\nmax_log_file = 1\n")
        self.serial = 0

    @property
    def log(self) -> Path:
        return self.folder / "audit.log"

    def write(self, count: int = 3) -> None:
        with self.log.open("a") as file:
            for _ in range(count):
                self.serial += 1
                file.write(f"type=USER_CMD msg=audit(1796000000.{self.serial:03}:{self.serial}): auid=1001 cmd=id\n")

    def fill(self) -> None:
        """Write lines until auditd would rotate."""
        while self.log.stat().st_size < MIB:
            self.write(500)

    def rotate(self) -> None:
        for number in range(KEPT - 1, 0, -1):
            path = self.folder / f"audit.log{f'.{number - 1}' if number > 1 else ''}"
            if path.exists():
                path.rename(self.folder / f"audit.log.{number}")
        self.log.touch()

    def append(self) -> None:
        append(self.top)

    def breaks(self) -> list[tuple[str, int]]:
        return [(each["sort"], each["number"]) for each in self.facts()["breaks"]]

    def facts(self) -> dict:
        facts = log_chain(self.top)
        assert facts is not None
        return facts

    def edit(self, change, path: Path | None = None) -> None:
        """Write the lines of a file in place, as a person with root's rights may."""
        path = path or self.log
        lines = path.read_bytes().splitlines(keepends=True)
        with path.open("r+b") as file:
            file.write(b"".join(change(lines)))
            file.truncate()


@pytest.fixture
def host(tmp_path: Path) -> AuditedHost:
    """A host whose chain has three entries about one file."""
    host = AuditedHost(tmp_path)
    for _ in range(3):
        host.write(4)
        host.append()
    return host


def without(*numbers: int):
    return lambda lines: [line for number, line in enumerate(lines) if number not in numbers]


def swapped(first: int, second: int):
    def change(lines: list[bytes]) -> list[bytes]:
        lines[first], lines[second] = lines[second], lines[first]
        return lines

    return change


def edited(number: int):
    return lambda lines: [line.replace(b"1001", b"1002") if at == number else line for at, line in enumerate(lines)]


def inserted(number: int):
    return lambda lines: [*lines[:number], b"type=USER_CMD msg=audit(1.1:1): forged\n", *lines[number:]]


def test_a_host_without_the_role_has_no_chain(tmp_path):
    assert log_chain(str(tmp_path)) is None


def test_entries_continue_each_other_and_cover_each_byte(host):
    lines = host.chain.read_bytes().splitlines()
    entries = [json.loads(line) for line in lines]

    assert [entry["number"] for entry in entries] == [0, 1, 2]
    assert [entry["previous"] for entry in entries[1:]] == [hash_of(line) for line in lines[:-1]]
    covered = [(each["start"], each["end"]) for entry in entries for each in entry["segments"]]
    assert covered[0][0] == 0 and covered[-1][1] == host.log.stat().st_size
    assert all(before[1] == after[0] for before, after in pairwise(covered))
    assert host.chain.stat().st_mode & 0o777 == 0o600


def test_the_facts_have_the_hash_of_each_entry(host):
    facts = host.facts()

    assert facts["hashes"] == "".join(
        hash_of(line)[:CHAIN_HASH_LETTERS] for line in host.chain.read_bytes().splitlines()
    )
    assert (facts["number"], facts["breaks"]) == (2, [])


def test_a_log_without_new_lines_gets_no_entry(host):
    before = host.chain.read_bytes()

    host.append()

    assert host.chain.read_bytes() == before


def test_the_program_on_a_host_needs_nothing_but_python(host):
    host.write()
    program = log_chain_program().replace("module.append()", "module.append(sys.argv[1])")

    subprocess.run(["python3", "-I", "-S", "-X", "utf8", "-", host.top], input=program.encode(), check=True)

    assert (host.facts()["number"], host.breaks()) == (3, [])


def test_lines_are_on_the_drive_before_the_chain_has_their_hash(host, monkeypatch):
    host.write()
    synced = []
    monkeypatch.setattr(os, "fsync", lambda descriptor: synced.append(os.fstat(descriptor).st_ino))

    host.append()

    assert synced == [host.log.stat().st_ino, host.chain.stat().st_ino]


def test_the_beginning_of_a_line_waits_for_its_end(host):
    with host.log.open("a") as file:
        file.write("type=USER_CMD msg=au")
    host.append()
    with host.log.open("a") as file:
        file.write("dit(1.1:99): cmd=id\n")
    host.append()

    assert host.breaks() == []
    assert host.facts()["number"] == 3


def test_rotation_by_size_is_no_tampering(host):
    for _ in range(KEPT + 2):
        host.fill()
        host.append()
        host.rotate()
        host.write()
        host.append()

    assert host.breaks() == []
    assert len([*host.folder.iterdir()]) == KEPT


def test_lines_before_a_rotation_are_recorded_after_it(host):
    host.fill()
    host.rotate()
    host.write()
    host.append()

    assert host.breaks() == []
    host.edit(edited(30), host.folder / "audit.log.1")
    assert host.breaks() == [("edited", 3)]


@pytest.mark.parametrize(
    ("change", "broken"),
    [
        (edited(5), ("edited", 1)),
        (edited(0), ("edited", 0)),
        (edited(11), ("edited", 2)),
        (without(5), ("deleted", 1)),
        (without(4, 5, 6), ("deleted", 1)),
        (without(0), ("deleted", 0)),
        (without(10, 11), ("truncated", 2)),
        (swapped(5, 6), ("swapped", 1)),
        (inserted(6), ("inserted", 1)),
    ],
)
def test_each_sort_of_change_is_named_with_its_entry_alone(host, change, broken):
    host.edit(change)

    assert host.breaks() == [broken]


def test_a_change_is_found_after_further_lines(host):
    host.edit(without(5))
    host.write()
    host.append()

    assert ("deleted", 1) in host.breaks()


def test_a_log_that_was_emptied_is_found(host):
    host.log.write_bytes(b"")
    assert {sort for sort, _ in host.breaks()} == {"deleted"}

    host.write()
    host.append()
    assert {sort for sort, _ in host.breaks()} == {"deleted"}


def test_a_rotated_file_that_is_missing_is_found(host):
    host.fill()
    host.rotate()
    host.write()
    host.append()

    (host.folder / "audit.log.1").unlink()

    assert host.breaks() == [("deleted", 3)]


def test_two_files_in_each_others_place_are_found(host):
    for _ in range(2):
        host.fill()
        host.rotate()
        host.write()
        host.append()
    assert host.breaks() == []
    first, second, aside = (host.folder / f"audit.log.{name}" for name in ("1", "2", "aside"))
    first.rename(aside)
    second.rename(first)
    aside.rename(second)

    assert [sort for sort, _ in host.breaks()] == ["swapped"]


def test_files_that_are_rotated_to_push_old_ones_out_are_found(host):
    for _ in range(KEPT):
        host.rotate()
        host.write()
        host.append()

    assert {sort for sort, _ in host.breaks()} == {"rotated"}


def test_lines_that_were_rotated_out_before_their_entry_are_found(host):
    host.fill()
    host.rotate()
    host.write()
    host.append()
    for _ in range(KEPT):
        host.fill()
        host.rotate()

    assert [sort for sort, _ in host.breaks()] == ["rotated"]


@pytest.mark.parametrize(
    ("change", "broken"),
    [
        (lambda lines: [lines[0].replace(b"T", b"t"), *lines[1:]], ("edited", 0)),
        (without(1), ("deleted", 1)),
        (without(0), ("deleted", 0)),
        (swapped(0, 1), ("deleted", 0)),
    ],
)
def test_a_change_of_the_chain_itself_is_named(host, change, broken):
    host.edit(change, host.chain)

    assert host.breaks()[0] == broken


def test_a_chain_that_is_made_again_has_other_hashes(host):
    before = host.facts()
    host.edit(edited(5))
    host.chain.unlink()

    host.append()

    assert host.breaks() == []
    assert host.facts()["id"] != before["id"]


def test_an_end_that_is_removed_and_written_again_has_another_hash(host):
    before = host.facts()["hashes"]
    host.edit(without(2), host.chain)
    host.edit(edited(11))

    host.append()

    after = host.facts()
    assert (after["number"], after["breaks"]) == (2, [])
    assert after["hashes"][: 2 * CHAIN_HASH_LETTERS] == before[: 2 * CHAIN_HASH_LETTERS]
    assert after["hashes"] != before


def test_a_chain_without_an_entry_at_its_end_is_unknown(host):
    with host.chain.open("a") as file:
        file.write("x\n")

    with pytest.raises(Exception, match="no entry"):
        log_chain(host.top)


def test_an_entry_that_a_killed_program_left_incomplete_is_written_again(host):
    with host.chain.open("a") as file:
        file.write('{"chain":"')
    host.write()
    host.append()

    assert host.breaks() == []
    assert host.facts()["number"] == 3


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads every file")
def test_a_log_that_cannot_be_read_raises(host):
    host.log.chmod(0)

    with pytest.raises(PermissionError):
        log_chain(host.top)
