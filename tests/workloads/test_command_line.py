import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.signals import as_in_a_terminal
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
