"""The program of role scheduled_audit: its stacks, and the command that gets the key and the salt."""

import os
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.monitoring import files

COMMAND = """\
#!PLACE/suite/bin/python
[ "$2 $3 $4" = "$2 --digests digests/$2.json" ] || exit 9
shift 7
echo new > "$1"
case "$1" in */rack.new) exit STATUS;; esac
"""
"""Writes half a report of the stack `rack` and ends with a status."""


@pytest.fixture
def place() -> Iterator[Path]:
    """Yield a directory that, as those above it, root alone writes to."""
    with tempfile.TemporaryDirectory(dir="/run") as path:
        yield Path(path)


def installed(place: Path, status: int = 0) -> Path:
    """Make a project and a command below *place*; return the command."""
    command = place / "suite" / "bin" / "rackwright"
    for directory in (command.parent, place / "project", place / "state"):
        directory.mkdir(parents=True)
    command.write_text(COMMAND.replace("STATUS", str(status)).replace("PLACE", str(place)))
    command.chmod(0o755)
    interpreter, stack, module = (
        place / "python" / "bin" / "python",
        place / "project" / "stacks" / "rack.py",
        place / "suite" / "lib" / "module.py",
    )
    for file in (interpreter, stack, module, place / "suite" / "pyvenv.cfg"):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    interpreter.unlink()
    interpreter.write_bytes(Path("/bin/sh").read_bytes())
    interpreter.chmod(0o755)
    (command.parent / "python").symlink_to(interpreter)
    return command


def audited(place: Path) -> "subprocess.CompletedProcess[str]":
    """Run the program with *place* instead of /opt/rackwright."""
    secrets = {"audit_login": "k" * 100}
    made = files("scheduled_audit", secrets, stacks=["rack", "cold"], key={"secret": "audit_login"})
    program = place / "program"
    program.write_text(str(made["/usr/local/sbin/rackwright-audit"].content).replace("/opt/rackwright", str(place)))
    variables = {
        "PATH": os.environ["PATH"], "STATE_DIRECTORY": str(place / "state"), "CREDENTIALS_DIRECTORY": str(place),
    }  # fmt: skip
    return subprocess.run(["sh", str(program)], env=variables, capture_output=True, text=True)


@pytest.mark.parametrize(("status", "kept"), [(0, "new"), (1, "new"), (3, "new"), (2, "earlier"), (4, "earlier")])
def test_a_stack_without_a_report_keeps_its_earlier_metrics(status: int, kept: str, place: Path):
    """The other stack is audited in any case."""
    installed(place, status)
    (place / "state" / "rack.prom").write_text("earlier\n")
    done = audited(place)

    assert (place / "state" / "rack.prom").read_text() == f"{kept}\n"
    assert (place / "state" / "cold.prom").read_text() == "new\n"
    assert (done.returncode == 0) == (kept == "new")


@pytest.mark.parametrize(("path", "mode", "owner"), [
    ("suite/bin/rackwright", 0o775, 0), ("suite/bin", 0o777, 0), ("suite", 0o755, 65534), ("project", 0o757, 0),
    ("project", 0o755, 65534), ("other", 0o755, 65534), ("other", 0o777, 0), ("project/stacks", 0o755, 65534),
    ("project/stacks/rack.py", 0o755, 65534), ("project/stacks/rack.py", 0o664, 0), ("python/bin", 0o755, 65534),
    ("python/bin/python", 0o755, 65534), ("suite/lib/module.py", 0o646, 0), ("hop", 0o755, 65534), ("hop", 0o777, 0),
])  # fmt: skip
def test_a_command_that_others_may_write_does_not_get_the_key(path: str, mode: int, owner: int, place: Path):
    command, other = installed(place), place / "other" / "rackwright"
    other.parent.mkdir()
    if path.startswith("other"):
        command.rename(other)
        command.symlink_to(other)
    if path.startswith("hop"):
        hop = place / "hop" / "present"
        hop.parent.mkdir()
        command.rename(other)
        hop.symlink_to(other)
        command.symlink_to(hop)
    os.chown(place / path, owner, 0)
    (place / path).chmod(mode)
    done = audited(place)

    assert (done.returncode, [*(place / "state").iterdir()]) == (2, [])
    assert (place / path).name in done.stderr.partition(": others than root may write to it")[0]


def test_a_command_that_is_missing_is_an_error(place: Path):
    installed(place).unlink()
    assert "or it cannot be read; no stack is audited" in audited(place).stderr
