"""All ways in which a command ends, by the status of each, for commands that read, check and print."""

import errno
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterable
from itertools import product
from pathlib import Path

import pexpect
import pytest

from rackwright.cli import ending
from rackwright.errors import ChangeRefused, Diagnostic, HostUnreachable, StepFailed
from rackwright.exit_status import MEANINGS, ExitStatus
from tests.support.sampled import sampled

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


FULL, CLOSED, PIPED = "> /dev/full", ">&-", "2>&1 | true; exit ${PIPESTATUS[0]}"
"""Redirections of standard output: to a full disk, to nothing, and to a reader that ends before it reads."""
COMMANDS = {" ".join(argv): argv for argv in PRINTING}


def sampled_commands(ways: Iterable[str]) -> list[tuple[str, str]]:
    """Return pairs of a command and a way, with each command and each way at least once: each start takes a second."""
    return sampled(product(COMMANDS, ways), lambda pair: pair)


@pytest.mark.parametrize(("command", "streams"), sampled_commands((FULL, CLOSED, PIPED)))
def test_a_full_disk_and_a_closed_output_are_no_difference(command, streams, salt):
    status, text = ended(COMMANDS[command], streams=streams, **salt)

    assert "Traceback" not in text, text
    assert ("cannot be written: No space left" in text) == (streams == FULL), text
    # the pipe's buffer may take all of it
    assert status in {FULL: (74,), CLOSED: (141,), PIPED: (0, 141)}[streams]


def test_a_reader_that_ends_first_is_the_end_of_the_command(salt):
    status, text = ended(["schema"], streams="| head -c 1; exit ${PIPESTATUS[0]}", **salt)
    assert (status, text) == (141, "")


def test_an_error_that_cannot_be_written_keeps_a_status_of_its_own(salt):
    assert ended(["check", "nope"], streams="2> /dev/full", **salt)[0] == 74
    assert ended(["check", "nope"], streams="2>&-", **salt)[0] == 2


@pytest.mark.parametrize("argv", [["check", "nope"], ["audit", "nope"], ["nope"], ["check"], ["stacks", "--nope"]])
def test_what_is_wrong_with_the_command_or_the_declaration_is_2(argv, salt):
    assert ended(argv, **salt)[0] == 2


LOCALES = {"C": C_LOCALE, "ASCII": {"PYTHONIOENCODING": "ascii:strict"}}


@pytest.mark.parametrize(
    ("command", "locale"), [*sampled_commands(LOCALES), *(("check nöpe", locale) for locale in LOCALES)]
)
def test_no_locale_and_no_character_ends_a_command_with_a_traceback(command, locale, salt):
    status, text = ended(command.split(), **LOCALES[locale], **salt)
    assert (status, "Traceback" in text) == (2 if "nöpe" in command else 0, False), text


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
    (OSError(errno.ENOSPC, "of a file"), ExitStatus.OUTPUT_FAILED),
    (OSError(errno.EACCES, "of a file"), ExitStatus.INTERNAL),
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


def test_a_missing_stack_is_answered_with_those_that_are_here(tmp_path, salt):
    status, text = ended(["check"])
    assert status == ExitStatus.REFUSED
    assert "Missing argument 'STACK'" in text
    assert "stacks here: bank, bank-models, " in text

    status, text = ended(["check"], cwd=tmp_path)
    assert status == ExitStatus.REFUSED
    assert "stacks here" not in text and "Traceback" not in text
