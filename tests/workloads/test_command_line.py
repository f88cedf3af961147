import errno
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.signals import as_in_a_terminal
from tests.support.sources import ROOT, shown
from workloads.command_line import as_command, writes_to
from workloads.errors import Diagnostic, UserError


def ended(error: BaseException) -> int:
    @as_command
    def main() -> int:
        raise error

    return main()


def test_errors_of_users_end_with_their_status(capsys: pytest.CaptureFixture[str]) -> None:
    assert ended(UserError(Diagnostic("data.jsonl", "it is empty"))) == UserError.exit_status
    assert "data.jsonl: it is empty" in capsys.readouterr().err


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_drive_is_named_with_the_file(number: int, capsys: pytest.CaptureFixture[str]) -> None:
    assert ended(OSError(number, os.strerror(number), "/srv/full/model.gguf")) == 4
    error = capsys.readouterr().err
    assert "/srv/full/model.gguf: no space is left on its drive" in error
    assert "Free some space" in error


def test_a_full_drive_without_a_file_has_the_directory_of_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    @as_command
    def main() -> int:
        with writes_to(Path("/srv/full/run")):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    assert main() == 4
    assert "/srv/full/run: no space is left on its drive" in capsys.readouterr().err


def test_other_errors_keep_their_traceback() -> None:
    with pytest.raises(PermissionError):
        ended(PermissionError(errno.EACCES, "denied"))


def test_ctrl_c_before_a_step_leaves_no_traceback() -> None:
    program = (
        "import sys, time\nfrom workloads.command_line import as_command\n@as_command\ndef main():\n"
        "    print('started', flush=True)\n    time.sleep(600)\nsys.exit(main())\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program],
        stdout=-1,
        stderr=-1,
        text=True,
        preexec_fn=as_in_a_terminal,  # noqa: PLW1509
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "started\n"
        process.send_signal(signal.SIGINT)
        _, error = process.communicate(timeout=60)
    assert (process.returncode, error) == (130, "interrupted; the command can be run again\n")


PRINT = """
import socket, sys
from workloads.command_line import as_command

@as_command
def main():
    {}
    return 0

sys.exit(main())
"""


def run_without_reader(*lines: str, closed: tuple[str, ...] = ("stdout", "stderr")) -> tuple[int, bytes]:
    """Return the exit status of a command with *lines*, whose *closed* streams have no reader, and its errors."""
    end, other = os.pipe()
    os.close(end)
    streams = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE} | dict.fromkeys(closed, other)
    try:
        program = PRINT.format("\n    ".join(lines))
        done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=False, **streams)
    finally:
        os.close(other)
    return done.returncode, done.stderr or b""


@pytest.mark.parametrize(
    ("line", "closed"),
    [
        ("print('text')", "stdout"),
        ("print('text', flush=True)", "stdout"),
        ("[print('text' * 9999) for _ in range(9)]", "stdout"),
        ("raise SystemExit(print('text'))", "stdout"),
        ("print('text', file=sys.stderr)", "stderr"),
    ],
)
def test_a_command_whose_reader_has_ended_ends_by_sigpipe_without_a_word(line: str, closed: str) -> None:
    assert run_without_reader(line, closed=(closed,)) == (-signal.SIGPIPE, b"")


def test_a_message_for_a_reader_that_has_ended_ends_by_sigpipe() -> None:
    error = "from workloads.errors import Diagnostic, UserError; raise UserError(Diagnostic('a', 'it is empty'))"
    assert run_without_reader(error) == (-signal.SIGPIPE, b"")


def test_a_connection_that_has_ended_is_another_error() -> None:
    lines = ("one, other = socket.socketpair()", "other.close()", "one.send(b'text')")
    status, error = run_without_reader(*lines, closed=())
    assert status == 1 and b"BrokenPipeError" in error


def test_a_command_without_stdout_ends_as_any_other() -> None:
    assert run_without_reader("sys.stdout = None; print('text')", closed=()) == (0, b"")


HOSTS_ALONE = {
    "workloads/quantize/inside_tensorrt.py": "a process of another one, with one answer",
    "workloads/serving/switch.py": "run by a unit, with the journal as its output",
    "workloads/serving/watch.py": "run by a unit, with the journal as its output",
}


def test_each_command_ends_in_this_way() -> None:
    sources = {shown(path): path.read_text() for path in (ROOT / "workloads").rglob("*.py")}
    programs = {name for name, text in sources.items() if '__name__ == "__main__"' in text}
    assert {name for name in programs if not re.search(r"@as_command\ndef main\(", sources[name])} == {*HOSTS_ALONE}
