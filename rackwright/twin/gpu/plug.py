"""Gives a host of a twin its GPUs: the library that stands in for NVIDIA's, and the file that it reads."""

import io
import shlex
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path

from rackwright.errors import StepFailed
from rackwright.twin.backend import Machine
from rackwright.twin.gpu import state
from rackwright.twin.gpu.library import SONAME

FOLDER = "/usr/local/lib/rackwright-twin"
"""Of the library on a host, so that nobody takes it for one that was forgotten there."""
SEARCHED_FIRST = "/etc/ld.so.conf.d/00-rackwright-twin.conf"
"""ldconfig reads these files in the order of their names, and of two libraries of one name takes the first."""
_FRESH = f"{state.PATH}.fresh"
_UNPACK = f"""\
set -e
tar -x -C / --no-same-owner
if [ "$(head -n 1 {state.PATH} 2>&1)" = "$(head -n 1 {_FRESH})" ]; then rm {_FRESH}; else mv {_FRESH} {state.PATH}; fi
ldconfig
"""
"""In sh. The file's first line says what the host has: it stays as it is, unless other GPUs are declared by now."""


def plug_in(machine: Machine, library: Path, ssh: Callable[..., list[str]]) -> None:
    """Put GPUs into *machine*, which answers; what was changed on those that it has already stays."""
    command = shlex.join(("sudo", "-n", "sh", "-c", _UNPACK))
    run = subprocess.run(ssh(machine.name, command), input=_archive(machine, library), capture_output=True)
    if run.returncode:
        got = f"the guest said: {run.stderr.decode(errors='replace').strip()}"
        raise StepFailed(f"{machine.name}: GPUs", got, "a guest takes the files that stand for them", "Start it again")


def _archive(machine: Machine, library: Path) -> bytes:
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        for path, content, mode in (
            (f"{FOLDER}/{SONAME}", library.read_bytes(), 0o755),
            (SEARCHED_FIRST, f"{FOLDER}\n".encode(), 0o644),
            (_FRESH, state.text(machine.name, machine.gpus).encode(), 0o644),
        ):
            entry = tarfile.TarInfo(path.lstrip("/"))
            entry.size, entry.mode = len(content), mode
            tar.addfile(entry, io.BytesIO(content))
    return archive.getvalue()
