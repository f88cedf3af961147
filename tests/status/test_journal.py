"""Entries of journals: read by the program of the monitoring host, whose hosts send what they like."""

import json
import subprocess
import sys
from pathlib import Path

import rackwright.hosts.onhost
from rackwright.cli.journal import _line
from rackwright.status.journal import parse

PROGRAM = Path(rackwright.hosts.onhost.__file__).with_name("read_journal.py")


def entry(host: str, time: object, **fields: object) -> str:
    return f"entry {host} {json.dumps({'__REALTIME_TIMESTAMP': time, **fields})}"


def test_entries_of_all_hosts_are_in_the_order_of_time() -> None:
    lines = [
        entry("gpu-02", "1796243992000002", MESSAGE="second", _SYSTEMD_UNIT="ssh.service", PRIORITY="6"),
        entry("gpu-01", "1796243992000003", MESSAGE="third", SYSLOG_IDENTIFIER="kernel"),
        entry("gpu-01", "1796243992000001", MESSAGE="first"),
    ]
    found = parse("\n".join(lines), ["gpu-01", "gpu-02", "gpu-03"], 2)

    assert [(each.host, each.message) for each in found.entries] == [("gpu-02", "second"), ("gpu-01", "third")]
    assert found.entries[0].time == "2026-12-02T20:39:52.000002Z"
    assert (found.entries[0].unit, found.entries[0].priority, found.entries[1].program) == ("ssh.service", 6, "kernel")
    assert (found.without, found.shortened, found.unread) == (("gpu-03",), (), {})


def test_no_host_hides_the_entries_of_others_by_their_time_or_number() -> None:
    """
    Before, a host whose clock was ahead had all lines.
    """
    lines = [entry("gpu-02", f"{number}", MESSAGE=f"{number}") for number in (1, 2, 3)]
    lines += [entry("gpu-01", f"{9_000_000_000_000_000 + number}") for number in range(50)]
    found = parse("\n".join(lines), ["gpu-01", "gpu-02"], 4).entries
    assert [each.host for each in found] == ["gpu-02"] * 2 + ["gpu-01"] * 2
    assert [each.message for each in found[:2]] == ["2", "3"]
    assert len(parse("\n".join(lines), ["gpu-01", "gpu-02"], 20).entries) == 20, "it has the lines that others leave"
    assert [each.host for each in parse("\n".join(lines), ["gpu-01", "gpu-02"], 1).entries] == ["gpu-01"]


def test_an_entry_that_came_twice_is_shown_once() -> None:
    lines = [
        entry("gpu-01", "2", MESSAGE="b"),
        *[entry("gpu-01", "1", MESSAGE="a")] * 2,
        entry("gpu-02", "1", MESSAGE="a"),
    ]
    found = parse("\n".join(lines), ["gpu-01", "gpu-02"], 9).entries

    assert [(each.host, each.message) for each in found] == [("gpu-01", "a"), ("gpu-02", "a"), ("gpu-01", "b")]


def test_the_host_is_that_of_the_directory_and_not_that_of_the_entry() -> None:
    found = parse(entry("gpu-01", "1", MESSAGE="x", _HOSTNAME="gpu-02"), ["gpu-01", "gpu-02"], 9)

    assert [each.host for each in found.entries] == ["gpu-01"]
    assert parse(entry("other", "1", MESSAGE="x"), ["gpu-01"], 9).entries == ()


def test_a_message_of_a_host_is_one_visible_line() -> None:
    [found] = parse(entry("gpu-01", "1", MESSAGE="a\n2026-12-02 gpu-02 b\x1b[2J"), ["gpu-01"], 9).entries

    assert _line(found).endswith("gpu-01 -: a\\n2026-12-02 gpu-02 b\\x1b[2J")


def test_bytes_and_several_and_long_values_are_texts() -> None:
    values = [[104, 105], ["one", "two"], None, {"a": 1}]
    lines = [entry("gpu-01", f"{number}", MESSAGE=value) for number, value in enumerate(values)]

    assert [each.message for each in parse("\n".join(lines), ["gpu-01"], 9).entries] == ["hi", "one", "", ""]


def test_an_entry_that_is_not_valid_and_a_journal_that_was_not_read_are_named() -> None:
    lines = [entry("a", None), "entry b [1]", "failed c no such file", "cut d", entry("d", "1"), entry("e", "9" * 17)]
    found = parse("\n".join(lines), ["a", "b", "c", "d", "e"], 9)

    assert found.unread.keys() >= {"a", "b", "c"} and found.shortened == ("d",)
    assert "d" not in found.without


def test_the_program_bounds_each_host_and_names_those_that_fail(tmp_path: Path) -> None:
    (tmp_path / "gpu-01").mkdir()
    journalctl = tmp_path / "journalctl"
    journalctl.write_text('#!/bin/sh\necho \'{"MESSAGE": "a"}\'\necho \'{"MESSAGE": "b"}\'\n')
    journalctl.chmod(0o755)
    text = PROGRAM.read_text().replace("/usr/bin/journalctl", str(journalctl))

    def run(bound: int) -> list[str]:
        argv = [sys.executable, "-", str(tmp_path), "0", "9", str(bound), "", "gpu-01", "gpu-02"]
        return subprocess.run(argv, input=text, capture_output=True, text=True, check=True).stdout.splitlines()

    failed = "failed gpu-02 No such file or directory"
    assert run(99) == ['entry gpu-01 {"MESSAGE": "a"}', 'entry gpu-01 {"MESSAGE": "b"}', failed]
    assert run(20) == ["cut gpu-01", 'entry gpu-01 {"MESSAGE": "a"}', failed]
