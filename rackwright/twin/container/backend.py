"""The backend for containers: their files, their chassis process and their power."""

import fcntl
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from rackwright.errors import Diagnostic, SetupError, command
from rackwright.files import write_atomic
from rackwright.progress import Progress
from rackwright.twin.container import image
from rackwright.twin.container.container import LINKS, NESTED_DATA, PACKAGES, Container, check, command_line
from rackwright.twin.control import Control
from rackwright.twin.image import require
from rackwright.twin.layout import Layout
from rackwright.twin.settings import TwinSettings

_TUN = Path("/dev/net/tun")
_INOTIFY = Path("/proc/sys/fs/inotify/max_user_instances")
INOTIFY_EACH, INOTIFY_NODE = 4, 20
"""Inotify instances that root holds in one container, and in one that is a node of Kubernetes.

All containers have the same root. Counted on a cluster of three control planes, which held 22 to 27 each, and two
other nodes with 13.
"""
_OVERLAY = 'mount --bind "$1" /mnt && mount -t overlay -o lowerdir=/mnt,upperdir=changed,workdir=work overlay /mnt'
_OVERLAY_TRIAL = ("unshare", "--mount", "sh", "-c", _OVERLAY, "sh")
"""Command that tries the overlay mount of `start.sh` in a mount namespace of its own. It runs in the disk's folder."""


class Containers:
    """See `Backend`."""

    def __init__(self, layout: Layout, control: Control) -> None:
        self._layout, self._control = layout, control

    def require(self, machines: Sequence[Container]) -> None:
        for machine in machines:
            check(machine)
        names = ", ".join(machine.name for machine in machines)
        if os.geteuid() != 0:
            raise SetupError(
                Diagnostic(
                    names,
                    f"user {os.geteuid()} may not start containers",
                    "root",
                    "Run the command as root, or remove the hosts from rackwright:containers",
                    "only root can make namespaces, mounts and network interfaces",
                )
            )
        if any(machine.nics for machine in machines) and not _TUN.exists():
            raise SetupError(
                Diagnostic(
                    names,
                    f"this computer has no {_TUN}",
                    help="Run `sudo modprobe tun`, or remove the hosts from rackwright:containers",
                    note="the NICs of a container are TAP devices",
                )
            )
        if problems := [*kernel_problems(machines)]:
            raise SetupError(*problems)
        require("systemd-nspawn")

    def prepare(self, machines: Sequence[Container], progress: Progress) -> None:
        for machine in machines:
            self._make_disk(machine, progress)

    def helper_commands(self, machine: Container) -> Mapping[Path, list[str]]:
        return {}

    def command_line(self, machine: Container, port: int) -> list[str]:
        return command_line(machine, self._layout, self._system(machine), port)

    def is_powered(self, host: str, process: int) -> bool:
        try:
            return self._layout.power_file(host).read_text() == str(process)
        except FileNotFoundError:
            return False

    def press_power_button(self, host: str) -> None:
        self._control.signal(host, signal.SIGTERM)

    def press_reset_button(self, host: str) -> None:
        """Cut the power. A container starts within seconds, and has no memory that a reset button would keep."""
        self._control.kill(host)
        self.wait_until_gone(host)

    def show_cables(self, machine: Container) -> None:
        self._control.signal(machine.name, signal.SIGUSR1)

    def wait_until_gone(self, host: str) -> None:
        """Return when the last process and the control group of *host* are gone; until then they hold the lock."""
        remains = self._layout.remains_lock(host)
        if remains.exists():
            with remains.open("ab") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)

    # --- inside

    def _settings(self, host: str) -> TwinSettings:
        return TwinSettings(self._layout.settings(host))

    def _system(self, machine: Container) -> Path:
        system = self._settings(machine.name).system
        return Path(system) if system else image.root(machine.os)

    def _make_environment(self, machine: Container) -> None:
        """Make a virtual environment with the container's own Python, into which the lent packages are mounted."""
        if not Path(machine.workloads, PACKAGES).is_dir():
            raise SetupError(
                Diagnostic(
                    machine.name,
                    f"{machine.workloads} has no {PACKAGES}",
                    f"packages that are built for the Python of {machine.os}",
                    "Install rackwright with that Python, or remove rackwright:workloads",
                )
            )
        directory = self._layout.environment(machine.name)
        (directory / PACKAGES).mkdir(parents=True, exist_ok=True)
        (directory / "bin").mkdir(exist_ok=True)
        write_atomic(directory / "pyvenv.cfg", b"home = /usr/bin\ninclude-system-site-packages = false\n")
        python = directory / "bin" / "python"
        python.unlink(missing_ok=True)
        python.symlink_to("/usr/bin/python3")

    def _make_disk(self, machine: Container, progress: Progress) -> None:
        """Make the folder for the changes of *machine* to the root filesystem of its system."""
        if machine.workloads:
            self._make_environment(machine)
        for mount in machine.provided:
            self._layout.provided_tier(machine.name, mount).mkdir(parents=True, exist_ok=True)
        for name in NESTED_DATA if machine.nests else ():
            self._layout.nested_data(machine.name, name).mkdir(parents=True, exist_ok=True)
        settings, disk = self._settings(machine.name), self._layout.root_disk(machine.name)
        if disk.exists() and settings.system:
            system = self._system(machine)
            if not system.exists() and not (disk / "whole").exists():
                raise SetupError(
                    Diagnostic(
                        machine.name,
                        f"the system {system} of the container is missing",
                        help="Restore it; or, if the data of the twin may be lost, run `rackwright twin reset`",
                        note="a container stores only its differences from its system",
                    )
                )
            if system != image.root(machine.os):
                progress(f"{machine.name}: keeps its system; `rackwright twin reset` gives it the new image")
            return
        system = image.prepare(machine.os, progress)
        temporary = disk.with_name(f".{disk.name}")
        make_overlay(system, temporary, progress)
        settings.update(system=str(system))  # first, so that each disk has a system
        temporary.rename(disk)


def make_overlay(system: Path, disk: Path, progress: Progress) -> None:
    """Fill *disk* with the folders in which a container changes files of *system*; *system* itself does not change.

    These are the folders of an overlay, or a copy in `whole` if this kernel or filesystem cannot mount an overlay.
    """
    subprocess.run(["rm", "-rf", str(disk)], check=True)
    for part in ("changed", "work"):
        (disk / part).mkdir(parents=True)
    (disk / "changed").chmod(0o755)  # the container's own root directory
    if subprocess.run([*_OVERLAY_TRIAL, str(system)], cwd=disk, capture_output=True).returncode:
        progress(f"{disk.parent.name}: no overlay can be mounted here; the container gets a copy of {system}")
        subprocess.run(["cp", "-a", "--reflink=auto", str(system), str(disk / "whole")], check=True)


def _link_help(module: str) -> str:
    remove = "emove the hosts from rackwright:containers, so that they are virtual machines"
    if not _has_module(module):
        return f"R{remove}: this kernel has no module {module}"
    return f"Run {command('sudo modprobe {}', module)}, or r{remove}"


def _has_module(module: str) -> bool:
    """Return whether the kernel that runs has *module*; True if no program here can say that."""
    argv = ["modprobe", "--dry-run", "--quiet", module]
    return not shutil.which(argv[0]) or subprocess.run(argv, capture_output=True).returncode == 0


def kernel_problems(machines: Sequence[Container]) -> Iterator[Diagnostic]:
    """Yield what this computer's kernel, which containers share, lacks for *machines*. Only root can try its links."""
    for kind in dict.fromkeys(kind for machine in machines for kind in machine.links):
        module, make = LINKS[kind]
        done = subprocess.run(["unshare", "--net", *make.split()], capture_output=True, text=True)
        if done.returncode:
            yield Diagnostic(
                ", ".join(machine.name for machine in machines if kind in machine.links),
                f"this computer's kernel makes no link of type {kind}: {done.stderr.strip()}",
                help=_link_help(module),
                note="containers have this computer's kernel, and virtual machines one of their own",
            )
    allowed = int(_INOTIFY.read_text())
    needed = sum(INOTIFY_NODE if machine.nests else INOTIFY_EACH for machine in machines)
    if needed > allowed:
        yield Diagnostic(
            f"{len(machines)} containers",
            f"this computer allows a user {allowed} inotify instances",
            f"{INOTIFY_EACH} for each container, {INOTIFY_NODE} for a node of Kubernetes",
            f"Run {command('sudo sysctl fs.inotify.max_user_instances={}', 2 * needed)}",
        )
