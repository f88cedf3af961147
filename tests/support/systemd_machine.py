"""A real systemd, booted by systemd-nspawn on an overlay of this computer's root: nothing of it stays afterwards."""

import contextlib
import itertools
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Self

NEEDS = {"systemd-nspawn": "systemd-container", "unshare": "util-linux", "nsenter": "util-linux"}
_BOOT = """set -eu
work=$1 group=/sys/fs/cgroup/$2
mount --make-rprivate /
mount -t tmpfs tmpfs "$work"
mkdir "$work/upper" "$work/below" "$work/root"
mount -t overlay overlay -o "lowerdir=/,upperdir=$work/upper,workdir=$work/below" "$work/root"
rm -f "$work/root/etc/machine-id"
: > "$work/root/etc/machine-id"
[ "$(stat -f -c %T /sys/fs/cgroup)" = cgroup2fs ] || mount -t cgroup2 cgroup2 /sys/fs/cgroup
mkdir "$group"
echo $$ > "$group/cgroup.procs"
status=133 # of systemd-nspawn when the container restarts
while [ $status = 133 ]; do
  status=0
  systemd-nspawn --quiet --register=no --keep-unit --boot "--machine=$2" "--directory=$work/root" \\
  --private-network --console=pipe --link-journal=no systemd.unit=basic.target || status=$?
done
"""
START_SECONDS = 60
STOP_SECONDS = 10
GROUPS = (Path("/sys/fs/cgroup"), Path("/sys/fs/cgroup/unified"))
_NUMBERS = itertools.count(1)
"""Two containers of one process have different names: the group of the first may still be there."""
ROOT = Path(__file__).parents[2]
"""The repository, at the same path in the container."""


def lacks() -> str:
    """Return what this computer lacks for it; nothing where it lacks nothing."""
    if os.geteuid():
        return "root starts containers"
    return ", ".join(package for program, package in NEEDS.items() if not shutil.which(program))


def _child(process: str) -> str:
    """Return the first child of *process*; empty if there is none."""
    try:
        return next(iter(Path(f"/proc/{process}/task/{process}/children").read_text().split()), "")
    except OSError:
        return ""


def _remove_group(group: Path) -> None:
    """Remove a control group and those in it, as soon as its processes have ended."""
    until = time.monotonic() + STOP_SECONDS
    while group.is_dir() and time.monotonic() < until:
        for directory, _, _ in os.walk(group, topdown=False):
            with contextlib.suppress(OSError):
                Path(directory).rmdir()
        time.sleep(0.05)


class SystemdMachine:
    """A container with systemd as its first process, as long as the ``with`` block runs."""

    def __init__(self, directory: Path) -> None:
        self._work, self._name = directory / "machine", f"rw{os.getpid()}-{next(_NUMBERS)}"
        self._errors = directory / "errors"

    def __enter__(self) -> Self:
        self._work.mkdir()
        self._start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop()

    def _start(self) -> None:
        with self._errors.open("w") as errors:
            self._process = subprocess.Popen(
                ["unshare", "--mount", "sh", "-c", _BOOT, "sh", str(self._work), self._name],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=errors,
            )
        self._first = self._await_start("")

    def _await_start(self, before: str) -> str:
        """Return the first process of the container, another one than *before*, once the container has started."""
        until = time.monotonic() + START_SECONDS
        while time.monotonic() < until and self._process.poll() is None:
            self._first = _child(_child(str(self._process.pid)))
            is_other = self._first and self._first != before
            if is_other and self.run("systemctl is-active basic.target", check=False).strip() == "active":
                return self._first
            time.sleep(0.1)
        errors = self._errors.read_text(errors="replace").strip()[-2000:]
        status = self._process.poll()
        if status is None:
            self._stop()
        raise AssertionError(f"the container did not start, its shell has ended with {status}: {errors}")

    def restart(self) -> None:
        """Restart the container as a host restarts: its files stay, and those below /run go."""
        before = self._first
        self.run("systemctl reboot --force", check=False)
        self._await_start(before)

    @property
    def root(self) -> str:
        """The root of the container's files."""
        return f"/proc/{self._first}/root"

    def _stop(self) -> None:
        self._process.kill()  # the shell first: it starts the container again
        nspawn = _child(str(self._process.pid))
        for process in (self._first, nspawn):
            with contextlib.suppress(ProcessLookupError, ValueError):
                os.kill(int(process), signal.SIGKILL)
        self._process.wait()
        for group in (directory / self._name for directory in GROUPS):
            _remove_group(group)

    def run(self, command: str | Sequence[str], check: bool = True) -> str:
        """Return the output of a shell text or an argument list in the container."""
        argv = ["sh", "-c", command] if isinstance(command, str) else [*command]
        done = subprocess.run(
            ["nsenter", f"--target={self._first}", "--mount", "--pid", "--net", "--ipc", "--uts", "--cgroup", *argv],
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C"},
        )
        if check and done.returncode:
            raise AssertionError(f"{argv} ended with {done.returncode}: {done.stdout}{done.stderr}")
        return done.stdout + done.stderr
