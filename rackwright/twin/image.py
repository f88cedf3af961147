"""What guests start from: made once, of Debian's packages and the files in `guest/`, and kept by content."""

import hashlib
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from rackwright.errors import SetupError
from rackwright.progress import Progress
from rackwright.toolchain.apt import SUITES, mirrors, network_settings
from rackwright.toolchain.cache import directory as cache_directory
from rackwright.toolchain.cache import filling, locked

PACKAGES = {
    "mmdebstrap": "mmdebstrap",
    "mke2fs": "e2fsprogs",
    "newuidmap": "uidmap",
    "qemu-system-x86_64": "qemu-system-x86",
    "qemu-img": "qemu-utils",
    "swtpm": "swtpm",
    "systemd-nspawn": "systemd-container",
}
"""The programs a twin needs on this computer, and Debian's packages of them; root needs no `newuidmap`."""

_GUEST = Path(__file__).parent / "guest"
_OPTIONS = (
    *("--variant=minbase", "--dpkgopt=force-unsafe-io"),
    *(f"--dpkgopt=path-exclude=/usr/share/{part}/*" for part in ("doc", "man", "locale")),
)


def require(*programs: str) -> None:
    """Raise SetupError unless all *programs* are installed."""
    path = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
    missing = [program for program in programs if shutil.which(program, path=path) is None]
    if missing:
        packages = " ".join(PACKAGES[program] for program in missing)
        raise SetupError(
            "this computer",
            f"{', '.join(missing)} not found",
            "a twin needs it",
            f"Run `sudo apt-get install {packages}`",
        )


def place(os_name: str, sort: str) -> Path:
    """Return where the image of *os_name* is, or will be: its name is a digest of all it is made from.

    Args:
        sort: The backend it is for. Files of `guest/` are for all of them, those in a folder of its name for it alone.
    """
    content = hashlib.blake2s("\0".join([SUITES[os_name], *_OPTIONS]).encode(), digest_size=8)
    for path in _files(sort):
        content.update(f"{path.relative_to(_GUEST)}\0".encode() + path.read_bytes())
    return cache_directory() / "twin" / f"{os_name}-{sort}-{content.hexdigest()}"


def _files(sort: str) -> list[Path]:
    sorts = {path.parent.name for path in _GUEST.glob("*/packages.txt")} - {sort}
    files = (path for path in _GUEST.rglob("*") if path.is_file())
    return sorted(path for path in files if path.relative_to(_GUEST).parts[0] not in sorts)


@dataclass(frozen=True, slots=True)
class Workshop:
    """Where an image is being built."""

    os_name: str
    directory: Path
    """For what is needed meanwhile."""
    log: Path
    progress: Progress

    @property
    def guest(self) -> Path:
        """A copy of `guest/`: the checkout may be out of reach for the root of a user namespace."""
        return self.directory / "guest"

    def bootstrap(self, target: Path, sort: str) -> None:
        """Install Debian with the packages of a guest of *sort* into *target*: a tar file, or a directory."""
        is_root = os.getuid() == 0
        lists = [path for path in (self.guest / "packages.txt", self.guest / sort / "packages.txt") if path.exists()]
        packages = [package for path in lists for package in _listed(path)]
        suite = SUITES[self.os_name]
        argv = ["mmdebstrap", f"--mode={'root' if is_root else 'unshare'}", *_OPTIONS]
        argv += [f"--format={'tar' if target.suffix == '.tar' else 'directory'}", f"--include={','.join(packages)}"]
        argv += [f"--aptopt={line}" for line in network_settings()]
        self.run([*argv, suite, str(target), *mirrors(suite)])

    def run(self, command: Sequence[str] | str) -> None:
        """Run *command* into the log, saying the last line of it every ten seconds."""
        argv = ["bash", "-o", "pipefail", "-c", command] if isinstance(command, str) else command
        started = time.monotonic()
        # INITRD=No: the kernel package would compute an initrd for minutes, and the guest has a smaller one.
        environment = os.environ | {"INITRD": "No", "LC_ALL": "C.UTF-8"}
        with self.log.open("a") as log:
            process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment)
        while True:
            try:
                status = process.wait(timeout=10)
                break
            except subprocess.TimeoutExpired:
                said = self.log.read_text(errors="replace").splitlines()
                self.progress(f"twin image: {time.monotonic() - started:.0f} s: {said[-1] if said else 'started'}")
            except BaseException:
                process.terminate()
                raise
        if status:
            last = "\n".join(self.log.read_text(errors="replace").splitlines()[-5:])
            got = f"{argv[0]} ended with {status}:\n{last}"
            raise SetupError("twin image", got, "it builds the guest", f"Read {self.log}")


def prepare(os_name: str, sort: str, build: Callable[[Workshop, Path], None], progress: Progress) -> Path:
    """Return the image of *os_name*, filled by *build* if this computer has none.

    It takes about 2 GB in the directory for temporary files meanwhile.
    """
    wanted = place(os_name, sort)
    if wanted.exists():
        return wanted
    with locked(wanted.with_suffix(".lock"), progress):
        if not wanted.exists():
            log = wanted.parent / f"{os_name}-{sort}.log"
            log.write_text("")
            progress(f"twin image: building {os_name} ({sort}) from its packages, 1 to 3 minutes; log: {log}")
            with (
                filling(wanted) as half_made,
                tempfile.TemporaryDirectory(prefix="rackwright-image-", ignore_cleanup_errors=True) as work,
            ):
                workshop = Workshop(os_name, Path(work), log, progress)
                workshop.run(["cp", "-R", str(_GUEST), str(workshop.guest)])
                build(workshop, half_made)
            progress(f"twin image: {os_name} ({sort}) is ready")
    return wanted


def _listed(path: Path) -> list[str]:
    return [line for line in path.read_text().splitlines() if line and not line.startswith("#")]
