"""A machine with nothing on it: a fresh Debian in a directory, its processes, mounts and home apart from ours."""

import os
import re
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from glob import glob
from itertools import chain
from pathlib import Path

import pytest

from rackwright.toolchain.apt import mirrors, network_settings
from tests.support.expect import eventually, need
from tests.support.log import ROOT, Log

SUITE = "bookworm"
THERE = ("git", "make", "ca-certificates")
"""Packages that a user needs to clone the repository and run make."""
CARRIED = re.compile(r"(?i)PIP_(?!FIND_LINKS).*|.*_proxy|.*SSL_CERT_\w+|REQUESTS_CA_BUNDLE|CURL_CA_BUNDLE")
"""Variables that say how this computer reaches its package registries."""
GO_SETTINGS = ("GOPROXY", "GOSUMDB", "GOPRIVATE", "GONOSUMDB", "GOFLAGS", "GOTOOLCHAIN")
FILES = ("/etc/resolv.conf", "/etc/hosts", "/etc/pip.conf", "/etc/ssl/certs/*.crt")
"""Patterns of what else says so, copied where it is there."""
CHECKOUT = "/root/rackwright"
RACKWRIGHT = "/root/tool/bin/rackwright"
INSTALL = (
    "apt-get update && apt-get install --yes --no-install-recommends python3-venv",
    "python3 -m venv /root/tool",
    "/root/tool/bin/pip install --find-links /source/dist -r /source/dist/requirements.txt",
)
"""Commands with which a user installs the wheel; /source is this checkout. The machine has no Python before."""
_INSIDE = """
set -e
mount --bind "$1" "$1" # a machine's root directory is a mount point
for here in dev sys; do mount --rbind /$here "$1/$here"; done
mount -t proc proc "$1/proc"
mount --bind -o ro "$2" "$1/source"
[ ! -d "$3" ] || mount --bind -o ro "$3" "$1/usr/local/go"
exec chroot "$1" sh -c 'while :; do sleep 60; done'
"""
"""The first process of the machine: when it ends, all others do."""


class PlainMachine:
    """What is called runs in it as root, in a clone of this checkout."""

    def __init__(self, root: Path, process: int, log: Log) -> None:
        self._root, self._process, self._log = root, process, log

    def run(self, command: str, directory: str = CHECKOUT) -> subprocess.CompletedProcess[str]:
        """Run *command* in a shell, and return how it ended."""
        enter = ["nsenter", "--target", str(self._process), "--mount", "--pid", "--root"]
        return self._log.run([*enter, "env", f"--chdir={directory}", "sh", "-c", command], env=_environment())

    def packages(self) -> set[str]:
        """Return the names of the packages that are installed."""
        argv = ["dpkg-query", f"--admindir={self._root}/var/lib/dpkg", "--show", "--showformat=${Package}\n"]
        return set(subprocess.run(argv, capture_output=True, text=True, check=True).stdout.split())


@contextmanager
def plain_machine(log: Log) -> Iterator[PlainMachine]:
    """Yield a machine with a clone of what is committed here; all that runs in it ends with the block."""
    if os.geteuid() != 0:
        pytest.skip("only root can make a root directory of its own")
    root = log.empty_directory() / "root"
    log(f"a fresh Debian ({SUITE})")
    options = ["--mode=root", "--variant=minbase", f"--include={','.join(THERE)}"]
    settings = [f"--aptopt={line}" for line in network_settings()]
    made = log.run(["mmdebstrap", *options, *settings, SUITE, str(root), *mirrors(SUITE)])
    need(made.returncode == 0, "mmdebstrap failed")
    for path in chain.from_iterable(map(glob, FILES)):
        shutil.copyfile(path, root / path.lstrip("/"))
    for place in ("source", "usr/local/go"):
        (root / place).mkdir()
    go = _go("GOROOT") or "/usr/local/go"
    argv = ["unshare", "--mount", "--pid", "--fork", "sh", "-c", _INSIDE, "sh", str(root), str(ROOT), go]
    with subprocess.Popen(argv) as outside:
        eventually(lambda: _first(outside.pid, root), "the machine has its first process", 30)
        first = _first(outside.pid, root)
        try:
            machine = PlainMachine(root, first, log)
            clone = machine.run(f"git clone --quiet /source {CHECKOUT}", directory="/root")
            need(clone.returncode == 0, f"git clone: {clone.stderr}")
            yield machine
        finally:
            os.kill(first, signal.SIGKILL)
    shutil.rmtree(root)


def _first(outside: int, root: Path) -> int:
    """Return the first process of the machine once it stands in its *root*, 0 before."""
    for child in Path(f"/proc/{outside}/task/{outside}/children").read_text().split():
        if os.path.realpath(f"/proc/{child}/root") == str(root):
            return int(child)
    return 0


def _environment() -> dict[str, str]:
    path = "/usr/local/go/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    ours = {name: value for name, value in os.environ.items() if CARRIED.fullmatch(name)}
    ours |= {name: value for name in GO_SETTINGS if (value := _go(name))}
    return {"HOME": "/root", "PATH": path, "LANG": "C.UTF-8", **ours}


def _go(name: str) -> str:
    """Return a setting of Go, empty where there is no Go."""
    if not shutil.which("go"):
        return ""
    return subprocess.run(["go", "env", name], capture_output=True, text=True, check=True).stdout.strip()
