"""The guard of a program's tree: how it ends a tree, what it reports, and that no temporary file stays."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rackwright import process_tree, scratch
from rackwright.process_tree import Stage
from tests.support import processes

ROOT = Path(__file__).parents[1]
STUBBORN = "trap '' TERM INT HUP; setsid sh -c 'trap \"\" TERM INT HUP; echo begun; while :; do sleep 1; done' & wait"
"""A program that no signal but SIGKILL ends, with a process in a session of its own."""
HOLD = """
import sys
from rackwright import process_tree
with process_tree.start(["sh", "-c", sys.argv[1]], stdout=sys.stdout) as process:
    process.wait()
"""


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The directory of temporary files, for this test alone."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    return tmp_path


def left(place: Path) -> list[str]:
    """Return the processes with the directory of the test in their environment, the guards too."""
    mine = [pid for pid in processes.tree(1) if processes.variables(pid).get("TMPDIR", "").startswith(str(place))]
    return [" ".join(processes.command_line(pid)) for pid in mine]


def await_condition(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def read(process: "subprocess.Popen[Any]") -> str:
    """Return the next line of the output."""
    assert process.stdout
    return str(process.stdout.readline()).strip()


@pytest.mark.parametrize("status", [0, 3, 127])
def test_the_status_and_both_outputs_are_those_of_the_program(status: int) -> None:
    done = process_tree.run(["sh", "-c", f"echo out; echo error >&2; exit {status}"])

    assert (done.returncode, done.stdout, done.stderr) == (status, "out\n", "error\n")


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGSEGV])
def test_a_signal_that_killed_the_program_is_the_status(number: int) -> None:
    assert process_tree.run(["sh", "-c", f"kill -{number} $$"]).returncode == -number


def test_a_missing_program_is_missing() -> None:
    with pytest.raises(FileNotFoundError, match="no-such-program"):
        process_tree.start(["no-such-program"])


def test_a_program_that_cannot_start_fails_as_in_a_shell(tmp_path: Path) -> None:
    program = tmp_path / "program"
    program.write_text("#!/no/such/interpreter\n")
    program.chmod(0o755)

    done = process_tree.run([str(program)])
    assert (done.returncode, str(program) in done.stderr) == (127, True)


def test_a_tree_that_ignores_signals_ends_when_it_is_stopped(place: Path) -> None:
    with process_tree.start(["sh", "-c", STUBBORN], stdout=subprocess.PIPE, text=True) as process:
        assert read(process) == "begun"
        process_tree.stop(process)

    assert left(place) == []
    assert process.returncode == -signal.SIGKILL


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_tree_ends_with_a_killed_command_and_leaves_no_file(place: Path, number: int) -> None:
    argv = [sys.executable, "-c", HOLD, f'echo x > "$TMPDIR/file"; {STUBBORN}']
    with subprocess.Popen(argv, cwd=ROOT, stdout=subprocess.PIPE, text=True) as command:
        assert read(command) == "begun"
        assert list(place.rglob("file"))
        command.send_signal(number)

    await_condition(lambda: not left(place))
    assert list(scratch.own_directory(place).iterdir()) == []


def test_what_a_program_leaves_running_ends_after_it(place: Path) -> None:
    assert process_tree.run(["sh", "-c", "setsid sleep 600 > /dev/null 2>&1 &"]).returncode == 0

    assert left(place) == []


def test_each_further_signal_begins_the_next_stage(place: Path) -> None:
    script = "trap 'echo one' INT; echo begun; while :; do sleep 0.1; done"
    ending = (Stage("program", signal.SIGINT, 600.0), Stage("tree", signal.SIGKILL, 600.0))
    with process_tree.start(["sh", "-c", script], ending, stdout=subprocess.PIPE, text=True) as process:
        assert read(process) == "begun"
        process.terminate()
        assert read(process) == "one"
        process.terminate()

    assert (process.returncode, left(place)) == (-signal.SIGKILL, [])


def test_a_stage_that_ends_nothing_is_followed_by_the_next() -> None:
    ending = (Stage("program", signal.SIGTERM, 0.0), Stage("tree", signal.SIGKILL, 600.0))
    with process_tree.start(["sh", "-c", STUBBORN], ending, stdout=subprocess.PIPE, text=True) as process:
        assert read(process) == "begun"
        process.terminate()

    assert process.returncode == -signal.SIGKILL


def test_a_guard_that_finds_no_command_starts_nothing(tmp_path: Path) -> None:
    """The command was killed between its request and the start of the guard."""
    os.mkfifo(tmp_path / "life")
    done = subprocess.run(process_tree.guard_command(["touch", str(tmp_path / "made")], str(tmp_path / "life")))

    assert (done.returncode, (tmp_path / "made").exists()) == (-signal.SIGKILL, False)


def test_a_killed_guard_takes_its_program_along_and_the_next_directory_removes_its_files(place: Path) -> None:
    script = 'echo x > "$TMPDIR/file"; echo begun; exec sleep 600'
    with process_tree.start(["sh", "-c", script], stdout=subprocess.PIPE, text=True) as process:
        assert read(process) == "begun"
        process.kill()

    await_condition(lambda: not left(place))
    assert list(place.rglob("file"))
    with scratch.directory(place) as directory:
        assert list(directory.parent.iterdir()) == [directory]
