"""The images that guests start from: built once from Debian's packages and `guest/`, and cached by content."""

import hashlib
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from rackwright import process_tree, scratch
from rackwright.errors import Diagnostic, SetupError
from rackwright.progress import Progress
from rackwright.toolchain.apt import SUITES, mirrors, network_settings
from rackwright.toolchain.cache import directory as cache_directory
from rackwright.toolchain.cache import hold_lock, replace_directory

PACKAGES = {
    "mmdebstrap": "mmdebstrap",
    "mke2fs": "e2fsprogs",
    "newuidmap": "uidmap",
    "qemu-system-x86_64": "qemu-system-x86",
    "qemu-img": "qemu-utils",
    "swtpm": "swtpm",
    "systemd-nspawn": "systemd-container",
}
"""Debian package of each program that a twin needs on this computer; root does not need `newuidmap`."""

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
            Diagnostic(
                "this computer",
                f"programs that a twin needs are missing: {', '.join(missing)}",
                help=f"Run `sudo apt-get install {packages}`",
            )
        )


def image_path(os_name: str, backend: str) -> Path:
    """Return the path of the image of *os_name*, which may not exist yet. Its name has a digest of all sources.

    Args:
        backend: The backend that uses the image. A folder of `guest/` with its name is for this backend alone.
    """
    content = hashlib.blake2s("\0".join([SUITES[os_name], *_OPTIONS]).encode(), digest_size=8)
    for path in _files(backend):
        content.update(f"{path.relative_to(_GUEST)}\0".encode() + path.read_bytes())
    return cache_directory() / "twin" / f"{os_name}-{backend}-{content.hexdigest()}"


def _files(backend: str) -> list[Path]:
    others = {path.parent.name for path in _GUEST.glob("*/packages.txt")} - {backend}
    files = (path for path in _GUEST.rglob("*") if path.is_file())
    return sorted(path for path in files if path.relative_to(_GUEST).parts[0] not in others)


@dataclass(frozen=True, slots=True)
class ImageBuilder:
    """The build of one image, with its working directory and its log."""

    os_name: str
    directory: Path
    """Directory for temporary files of the build."""
    log: Path
    progress: Progress

    @property
    def guest(self) -> Path:
        """Copy of `guest/`: the root of a user namespace may not be able to read the checkout."""
        return self.directory / "guest"

    def bootstrap(self, target: Path, backend: str) -> None:
        """Install Debian with the packages of a guest of *backend* into *target*, a tar file or a directory."""
        is_root = os.getuid() == 0
        lists = [path for path in (self.guest / "packages.txt", self.guest / backend / "packages.txt") if path.exists()]
        packages = [package for path in lists for package in _read_packages(path)]
        suite = SUITES[self.os_name]
        argv = ["mmdebstrap", f"--mode={'root' if is_root else 'unshare'}", *_OPTIONS]
        argv += [f"--format={'tar' if target.suffix == '.tar' else 'directory'}", f"--include={','.join(packages)}"]
        argv += [f"--aptopt={line}" for line in network_settings()]
        self.run([*argv, suite, str(target), *mirrors(suite)])

    def run(self, command: Sequence[str] | str) -> None:
        """Run *command* with its output in the log, and report the last line of the log every ten seconds."""
        argv = ["bash", "-o", "pipefail", "-c", command] if isinstance(command, str) else command
        started = time.monotonic()
        # INITRD=No: the kernel package would build an initrd for minutes, and the guest has a smaller one.
        environment = os.environ | {"INITRD": "No", "LC_ALL": "C.UTF-8"}
        # the user namespace of mmdebstrap has other accounts, which cannot pass the directory that the guard sets
        command_line = ["env", f"TMPDIR={self.directory}", *argv]
        with self.log.open("a") as log:
            process = process_tree.start(
                command_line, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment
            )  # fmt: skip
        while True:
            try:
                status = process.wait(timeout=10)
                break
            except subprocess.TimeoutExpired:
                lines = self.log.read_text(errors="replace").splitlines()
                self.progress(f"twin image: {time.monotonic() - started:.0f} s: {lines[-1] if lines else 'started'}")
            except BaseException:
                process_tree.stop(process)
                raise
        if status:
            last = "\n".join(self.log.read_text(errors="replace").splitlines()[-5:])
            problem = f"{argv[0]} failed with status {status}:\n{last}"
            raise SetupError(Diagnostic("twin image", problem, help=f"Read {self.log}"))


def prepare(os_name: str, backend: str, build: Callable[[ImageBuilder, Path], None], progress: Progress) -> Path:
    """Return the image of *os_name*, and build it with *build* if this computer has none.

    The build takes about 2 GB in the directory for temporary files.
    """
    image = image_path(os_name, backend)
    if image.exists():
        return image
    with hold_lock(image.with_suffix(".lock"), progress):
        if not image.exists():
            log = image.parent / f"{os_name}-{backend}.log"
            log.write_text("")
            progress(f"twin image: building {os_name} ({backend}) from its packages, 1 to 3 minutes; log: {log}")
            with (
                replace_directory(image) as half_made,
                scratch.directory(passable=os.getuid() != 0) as work,
            ):
                builder = ImageBuilder(os_name, work, log, progress)
                builder.run(["cp", "-R", str(_GUEST), str(builder.guest)])
                build(builder, half_made)
            progress(f"twin image: {os_name} ({backend}) is ready")
    return image


def _read_packages(path: Path) -> list[str]:
    return [line for line in path.read_text().splitlines() if line and not line.startswith("#")]
