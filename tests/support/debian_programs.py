"""Programs of Debian packages that tests run, without an installation: the packages' scripts would start daemons."""

import os
import shutil
import subprocess
from functools import cache
from pathlib import Path

import pytest

from rackwright.toolchain.cache import directory, hold_lock, replace_directory


def debian_program(name: str, package: str) -> Path:
    """Return the path of program *name*: of this computer, else of *package*, unpacked below the cache.

    Skips the test on a computer without apt.
    """
    path = f"{os.environ['PATH']}:/usr/sbin"
    if installed := shutil.which(name, path=path):
        return Path(installed)
    if not shutil.which("apt-get"):
        pytest.skip(f"{name} is not installed, and this computer has no apt to download {package}")
    folder = _unpacked(package)
    unpacked = next((folder / bin / name for bin in ("usr/sbin", "usr/bin") if (folder / bin / name).exists()), None)
    assert unpacked, f"{package} has no program {name}"
    return unpacked


def debian_file(path: str, package: str) -> Path:
    """Return the file *path* of this computer, else that of *package*, unpacked below the cache."""
    return Path(path) if Path(path).exists() else _unpacked(package) / path.lstrip("/")


def link_debian_libraries(directory: Path, *packages: str) -> None:
    """Link the libraries of *packages*, which need not be installed, into *directory*, for LD_LIBRARY_PATH."""
    directory.mkdir()
    for package in packages:
        for path in _unpacked(package).rglob("*.so.*"):
            (directory / path.name).symlink_to(path)


LISTS = Path("/var/lib/apt/lists")
"""The lists of packages, whose directory changes with each update."""


@cache
def _unpacked(package: str) -> Path:
    parent = directory() / "test-programs"
    known = parent / f"{package}.version"
    with hold_lock(parent / f"{package}.lock", print):
        # apt reads all its lists for one answer, in each process of the tests
        if not known.exists() or known.stat().st_mtime < LISTS.stat().st_mtime:
            known.write_text(_version(package))
        version = known.read_text()
        target = parent / f"{package}-{version}"
        if not target.exists():
            with replace_directory(target) as incomplete:
                _run("apt-get", "-q", "download", f"{package}={version}", cwd=incomplete)
                [file] = incomplete.glob("*.deb")
                _run("dpkg-deb", "-x", str(file), str(incomplete))
                file.unlink()
    return target


def _version(package: str) -> str:
    """Return the version of *package* that apt would install; root updates the lists if they lack the package."""
    for updated in (False, True):
        shown = subprocess.run(["apt-cache", "show", "--no-all-versions", package], capture_output=True, text=True)
        if versions := [line.removeprefix("Version: ") for line in shown.stdout.splitlines() if "Version: " in line]:
            return versions[0]
        if not updated and os.geteuid() == 0:
            _run("apt-get", "-q", "update")
    pytest.skip(f"apt knows no package {package}: run `apt-get update` as root")


def _run(*command: str, cwd: Path | None = None) -> None:
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True)
    assert done.returncode == 0, f"{' '.join(command)} ended with {done.returncode}: {done.stderr}"
