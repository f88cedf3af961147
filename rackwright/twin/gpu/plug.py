"""Installation of GPUs on a host of a twin: stand-ins for NVIDIA's libraries, and the state file that they read."""

import io
import shlex
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path

from rackwright.errors import Diagnostic, StepFailed
from rackwright.twin.backend import Machine
from rackwright.twin.container.container import Container
from rackwright.twin.gpu import state
from rackwright.twin.gpu.library import CUDA, SONAME

FOLDER = "/usr/local/lib/rackwright-twin"
"""Folder of the libraries on a host. Its name shows that they belong to the twin."""
DRIVER = f"{FOLDER}/driver-version"
"""File with the version of the driver on hosts that cannot install the declared one, see nvml.c."""
SEARCHED_FIRST = "/etc/ld.so.conf.d/00-rackwright-twin.conf"
"""File that ldconfig reads first: it reads them by name, and takes the first of two libraries of one name."""
NODES = "/etc/tmpfiles.d/twin.conf"
"""File by which systemd makes the device nodes at each start, on hosts that give GPUs to containers."""
MAJOR = 120
"""Number of a driver for local use, which no driver has. Source: Linux, Documentation/admin-guide/devices.txt."""
COMMON_NODES = {"nvidiactl": 255, "nvidia-uvm": 254, "nvidia-uvm-tools": 253}
"""Device nodes that all GPUs share, with their minor numbers."""
_FRESH = f"{state.PATH}.fresh"
LINK_LIBRARIES = f"""\
for name in {CUDA} {SONAME}; do
    case $(readlink "$place/$name") in {FOLDER}/*) rm "$place/$name" ;; esac
    [ ! -e {FOLDER}/$name ] || [ -e "$place/$name" ] || [ -L "$place/$name" ] || ln -s {FOLDER}/$name "$place/$name"
done"""
"""Shell lines that link the libraries in the directory *place*; a driver's own library there stays."""
_UNPACK = f"""\
set -e
rm -f {DRIVER} {FOLDER}/{CUDA}
tar -x -C / --no-same-owner
if [ "$(head -n 1 {state.PATH} 2>&1)" = "$(head -n 1 {_FRESH})" ]; then rm {_FRESH}; else mv {_FRESH} {state.PATH}; fi
if [ -e {NODES} ]; then
    systemd-tmpfiles --create {NODES}
    place=/usr/lib/$(uname -m)-linux-gnu
{LINK_LIBRARIES}
fi
ldconfig
"""
"""Shell script that installs the files. The state file stays unless its first line, the list of GPUs, has changed.

Hosts that give GPUs to containers have links where a driver has its libraries: pods with the host's own /usr, which
they may not write to, get the libraries mounted over these.
"""


def plug_in(machine: Machine, libraries: Path, ssh: Callable[..., list[str]]) -> None:
    """Put GPUs into *machine*, which answers SSH. Changes to GPUs that the machine already has stay."""
    command = shlex.join(("sudo", "-n", "sh", "-c", _UNPACK))
    run = subprocess.run(ssh(machine.name, command), input=_archive(machine, libraries), capture_output=True)
    if run.returncode:
        problem = f"the guest cannot unpack the files of its GPUs: {run.stderr.decode(errors='replace').strip()}"
        raise StepFailed(Diagnostic(f"{machine.name}: GPUs", problem, help="Start the twin again"))


def nodes_text(gpus: int) -> str:
    """Return the lines of tmpfiles.d(5) for the device nodes of *gpus* GPUs."""
    numbers = {f"nvidia{index}": index for index in range(gpus)} | COMMON_NODES
    return "".join(f"c /dev/{name} 0666 root root - {MAJOR}:{minor}\n" for name, minor in numbers.items())


def _archive(machine: Machine, libraries: Path) -> bytes:
    archive, gives_gpus = io.BytesIO(), isinstance(machine, Container) and machine.nests
    driver = [(f"{FOLDER}/{CUDA}", (libraries / CUDA).read_bytes(), 0o755), (DRIVER, machine.driver.encode(), 0o644)]
    with tarfile.open(fileobj=archive, mode="w") as tar:
        for path, content, mode in (
            (f"{FOLDER}/{SONAME}", (libraries / SONAME).read_bytes(), 0o755),
            (SEARCHED_FIRST, f"{FOLDER}\n".encode(), 0o644),
            (_FRESH, state.text(machine.name, machine.gpus).encode(), 0o644),
            *(driver if machine.driver else []),
            *([(NODES, nodes_text(len(machine.gpus)).encode(), 0o644)] if gives_gpus else []),
        ):
            entry = tarfile.TarInfo(path.lstrip("/"))
            entry.size, entry.mode = len(content), mode
            tar.addfile(entry, io.BytesIO(content))
    return archive.getvalue()
