"""All ways in which a command ends, by the status of each, for commands that read, check and print."""

import errno
import os
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pexpect
import pytest

from rackwright.cli import ending
from rackwright.errors import ChangeRefused, Diagnostic, HostUnreachable, StepFailed
from rackwright.exit_status import MEANINGS, ExitStatus

ROOT = Path(__file__).parents[2]
COMMAND = [sys.executable, "-c", "from rackwright.cli import main; main()"]
PRINTING = (["--version"], ["schema"], ["stacks", "--json"], ["audit", "--help"], ["check", "lab"])
"""Command lines that print without a host."""
C_LOCALE = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}


def ended(argv: list[str], cwd: Path = ROOT, streams: str = "", **environment: str) -> tuple[int, str]:
    """Return the status of a command, and its standard error; *streams* redirects its streams."""
    environment = {**os.environ, "RACKWRIGHT_SALT_FILE": "/dev/null", **environment}
    text = f'"$@" {streams or ">/dev/null"}'
    done = subprocess.run(
        ["bash", "-c", text, "bash", *COMMAND, *argv],
        cwd=cwd, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace",
    )  # fmt: skip
    return done.returncode, done.stderr


@pytest.fixture
def salt(tmp_path):
    path = tmp_path / "salt"
    path.write_bytes(b"x" * 32)
    return {"RACKWRIGHT_SALT_FILE": str(path)}


@pytest.mark.parametrize("argv", PRINTING, ids=" ".join)
def test_a_full_disk_and_a_closed_output_are_no_difference(argv, salt):
    status, text = ended(argv, streams="> /dev/full", **salt)
    assert (status, "cannot be written: No space left" in text, "Traceback" in text) == (74, True, False), text
    status, text = ended(argv, streams=">&-", **salt)
    assert (status, "Traceback" in text) == (141, False), text
    status, text = ended(argv, streams="2>&1 | true; exit ${PIPESTATUS[0]}", **salt)
    assert status in (0, 141) and "Traceback" not in text  # the pipe's buffer may take all of it


def test_a_reader_that_ends_first_is_the_end_of_the_command(salt):
    status, text = ended(["schema"], streams="| head -c 1; exit ${PIPESTATUS[0]}", **salt)
    assert (status, text) == (141, "")


def test_an_error_that_cannot_be_written_keeps_a_status_of_its_own(salt):
    assert ended(["check", "nope"], streams="2> /dev/full", **salt)[0] == 74
    assert ended(["check", "nope"], streams="2>&-", **salt)[0] == 2


@pytest.mark.parametrize("argv", [["check", "nope"], ["audit", "nope"], ["nope"], ["check"], ["stacks", "--nope"]])
def test_what_is_wrong_with_the_command_or_the_declaration_is_2(argv, salt):
    assert ended(argv, **salt)[0] == 2


@pytest.mark.parametrize("argv", [*PRINTING, ["check", "nöpe"]], ids=" ".join)
def test_no_locale_and_no_character_ends_a_command_with_a_traceback(argv, salt):
    status, text = ended(argv, **C_LOCALE, **salt)
    assert (status, "Traceback" in text) == (2 if "nöpe" in argv else 0, False), text
    status, text = ended(argv, PYTHONIOENCODING="ascii:strict", **salt)
    assert (status, "Traceback" in text) == (2 if "nöpe" in argv else 0, False), text


def status_of(error: BaseException) -> int:
    def fail() -> int:
        raise error

    return ending.run(fail)


WAYS = [
    (KeyboardInterrupt(), ExitStatus.INTERRUPTED),
    (ending.StopSignal(signal.SIGTERM), ExitStatus.TERMINATED),
    (ending.StopSignal(signal.SIGHUP), ExitStatus.HUNG_UP),
    (ending.OutputFailed(errno.EPIPE, "Broken pipe"), ExitStatus.OUTPUT_CLOSED),
    (ending.OutputFailed(errno.ENOSPC, "No space left on device"), ExitStatus.OUTPUT_FAILED),
    (BrokenPipeError(errno.EPIPE, "of a connection"), ExitStatus.INTERNAL),
    (OSError(errno.ENOSPC, "of a file"), ExitStatus.INTERNAL),
    (UnicodeEncodeError("ascii", "ö", 0, 1, "no"), ExitStatus.INTERNAL),
    (AssertionError(), ExitStatus.INTERNAL),
    (RecursionError(), ExitStatus.INTERNAL),
    (MemoryError(), ExitStatus.INTERNAL),
]


@pytest.mark.parametrize(("error", "status"), WAYS, ids=lambda value: type(value).__name__)
def test_each_exception_has_its_status(error, status):
    assert status_of(error) == status


def test_no_end_of_another_sort_has_the_status_of_a_result():
    results = {ExitStatus.AS_DECLARED, ExitStatus.DIFFERS, ExitStatus.REFUSED, ExitStatus.UNKNOWN, ExitStatus.FAILED}

    assert results.isdisjoint(status for _, status in WAYS)
    assert MEANINGS.keys() == {*ExitStatus}
    error = Diagnostic("a", "b")
    assert (ChangeRefused(error).exit_status, HostUnreachable(error).exit_status) == (2, 3)
    assert StepFailed(error).exit_status == ExitStatus.FAILED


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_a_signal_ends_a_command_with_its_status(number, status):
    wait = (
        # a test in the background of a shell has SIGINT ignored, and one under nohup SIGHUP
        "import signal, sys, time; signal.signal(signal.SIGINT, signal.default_int_handler);"
        "signal.signal(signal.SIGHUP, signal.SIG_DFL);"
        "from rackwright.cli import ending; ending.prepare();"
        "ending.end(ending.run(lambda: (print('begun', flush=True), time.sleep(60))[0] or 0))"
    )
    process = subprocess.Popen([sys.executable, "-c", wait], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout and process.stdout.readline() == "begun\n"
    process.send_signal(number)

    _, text = process.communicate(timeout=60)
    assert (process.returncode, "running it again is safe" in text) == (status, True), text


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_plan_stands_before_what_follows_it(unbuffered):
    """With PYTHONUNBUFFERED, a plan on stdout came after the question about it on stderr."""
    program = (
        "from rackwright.cli import ending; ending.prepare(); from rackwright import terminal\n"
        "terminal.show('plan'); terminal.notify('question'); ending.end(0)"
    )
    environment = {**os.environ, "PYTHONUNBUFFERED": unbuffered}
    shown = pexpect.run(f"{sys.executable} -c {shlex.quote(program)}", cwd=str(ROOT), env=environment, timeout=60)

    assert shown.split() == [b"plan", b"question"]
