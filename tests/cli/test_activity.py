"""The lines of work on hosts: their width, their seconds, and their place below other output."""

import io
import json
import re
import sys
from pathlib import Path

import pexpect
import pytest

from rackwright.cli.activity import Activity

ROOT = Path(__file__).parents[2]
STEP = "step 9/11: make the array /dev/md/hot of RW01-NVME0, RW01-NVME1, RW01-NVME2 and RW01-NVME3"


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.mark.parametrize("width", [79, 40, 39, 32])
def test_each_active_host_has_one_line_with_its_step_and_seconds(width: int) -> None:
    clock = Clock()
    activity = Activity(clock)
    activity.note("gpu-01", "step 1/11: wipe RW01-NVME0", "gpu-01/hot")
    clock.now += 60
    activity.note("gpu-01", STEP, "gpu-01/hot")
    activity.note("gpu-01", "waiting for another change of this host to end", "gpu-01/warm")
    activity.note("service-001", "step 2/2: read facts")
    clock.now += 8
    first, second = activity.lines(width, 20)

    assert first.startswith("gpu-01       step 9") and first.endswith("  68 s") and len(first) <= width
    assert second.startswith("service-001  ste") and second.endswith("  8 s") and len(second) <= width
    if width == 40:
        assert first == "gpu-01       step 9/11: make the …  68 s"
        assert second == "service-001  step 2/2: read facts  8 s"


def test_the_end_of_work_ends_its_line() -> None:
    activity = Activity()
    activity.note("a", "step 2/2: read facts")
    activity.note("a", "step 1/3: mount", "a/hot")
    activity.note("a", "")
    assert [line[:18] for line in activity.lines(80, 9)] == ["a  step 1/3: mount"]
    activity.note("a", "", "a/hot")
    activity.note("b", "")
    assert activity.lines(80, 9) == []


def test_more_hosts_than_rows_are_counted() -> None:
    activity = Activity()
    for number in range(64):
        activity.note(f"gpu-{number:02}", "step 1/2: connect")
    lines = activity.lines(40, 6)
    assert len(lines) == 6 and lines[-1] == "and 59 more hosts"


def test_a_record_without_its_end_is_read_later(tmp_path: Path) -> None:
    record = json.dumps({"activity": "a", "text": "step 1/2: connect", "work": "facts"}) + "\n"
    records, activity = io.StringIO(), Activity()
    records.write('{"outcome": "done", "id": "b"}\n' + record[:20])
    records.seek(0)
    activity.read(records)
    assert activity.lines(80, 9) == []
    place = records.tell()
    records.seek(0, io.SEEK_END)
    records.write(record[20:])
    records.seek(place)
    activity.read(records)
    assert activity.lines(80, 9)[0].startswith("a  step 1/2: connect")


SHOWN = f"""
import time
from rackwright import terminal
from rackwright.cli import activity

working = activity.Activity()
with activity.show(working, lambda: "comparing the stack lab with its hosts: 0 of 6 resources, 34 s"):
    working.note("gpu-01", {STEP!r})
    working.note("gpu-02", "step 2/2: read facts")
    time.sleep(0.8)
    terminal.show("gpu-03/hot: created, 12 s")
    terminal.notify("note: the lock is old")
    working.note("gpu-02", "")
    time.sleep(1.2)
terminal.show("the end")
"""


def screen(text: str, columns: int) -> list[str]:
    """Return the lines that a terminal with *columns* shows after *text*, of what rackwright writes to one."""
    lines, row = [""], 0
    for part in re.findall(r"\x1b\[\d*[A-Za-z]|\r\n|\n|\r|[^\x1b\r\n]+", text):
        if moved := re.fullmatch(r"\x1b\[(\d*)A", part):
            row -= int(moved[1] or 1)
            assert row >= 0, "above the first line"
        elif part == "\x1b[J":
            del lines[row:]
            lines.append("")
        elif part in ("\r\n", "\n"):
            row += 1
            lines += [""] * (row + 1 - len(lines))
        elif part != "\r":
            assert len(part) <= columns, part
            lines[row] = part
    return lines


@pytest.mark.parametrize("columns", [80, 40])
def test_a_terminal_shows_the_work_below_other_output(columns: int) -> None:
    child = pexpect.spawn(
        sys.executable, ["-c", SHOWN], cwd=str(ROOT), dimensions=(24, columns), timeout=60, encoding="utf-8"
    )
    child.expect("gpu-03/hot")
    before = screen(child.before, columns)
    assert [line.split("  ")[0] for line in before if line][:1] in (
        [
            ["comparing the stack lab with its hosts…"],
            ["comparing the stack lab with its hosts: 0 of 6 resources, 34 s"],
        ]
    ) or before == [""]
    child.expect(pexpect.EOF)
    whole = f"{child.before}"
    assert "gpu-01  step 9/11: make the" in whole and re.search(r"gpu-01  step 9/11.*…  \d s\r\n", whole)
    after = screen("gpu-03/hot" + whole, columns)
    assert [line for line in after if line] == ["gpu-03/hot: created, 12 s", "note: the lock is old", "the end"]


def test_without_a_terminal_nothing_is_drawn() -> None:
    from rackwright import terminal

    with terminal.live(lambda width, rows: ["never"]):
        assert not terminal.is_live() and not terminal._live
