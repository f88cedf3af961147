"""The registry of the project distribution, built from its Go module, as a Debian package."""

import platform
import shutil
from pathlib import Path

from rackwright.errors import Diagnostic, SetupError
from rackwright.progress import Progress
from rackwright.toolchain import cache, go
from rackwright.toolchain.go import Programs
from rackwright.toolchain.kubernetes.packages import Package, write
from rackwright.toolchain.sources import ToolUnavailable

VERSION = "3.1.2"
"""Version of distribution; module/ has its sources with checksums."""
REVISION = "0rackwright1"
"""Debian revision of the package. Other sources need another one, here and in the variables of the role."""
SOURCES = "43f6166e4ae9"
"""Digest of the module, of which the revision is."""
PACKAGE = "distribution-registry"
"""Name of the package, which no distribution has."""
MODULE = Path(__file__).parent / "module"
PROGRAM = Programs(
    MODULE,
    (".",),
    stamps={"github.com/distribution/distribution/v3/version.version": f"v{VERSION}"},
)


def ensure(progress: Progress) -> Path:
    """Return the path of the package, after a build if there is none yet.

    Raises:
        SetupError: Go or dpkg-deb is missing, or the build failed.
    """
    directory = _directory()
    if not directory.is_dir():
        if shutil.which("dpkg-deb") is None:
            problem, help = (
                "dpkg-deb is missing, which packs the registry",
                "Run it on Debian or one of its derivatives",
            )
            raise SetupError(Diagnostic("this computer", problem, help=help))
        directory.parent.mkdir(parents=True, exist_ok=True)
        with cache.hold_lock(directory.parent / "lock", progress):
            if not directory.is_dir():
                _build(directory, progress)
    [package] = directory.glob("*.deb")
    return package


def found_program() -> Path | None:
    """Return the path of the program; None if it is not built."""
    program = _directory() / "registry"
    return program if program.exists() else None


def package(program: Path) -> Package:
    """Return the package with *program*."""
    return Package(
        PACKAGE,
        f"{VERSION}-{REVISION}",
        "registry of container images, over a directory",
        programs={"usr/bin/registry": program},
    )


def _directory() -> Path:
    return cache.directory() / "registry" / f"{VERSION}-{REVISION}-{go.digest(MODULE)}-{platform.machine()}"


def _build(directory: Path, progress: Progress) -> None:
    try:
        with go.hold_builder("registry", progress) as builder, cache.replace_directory(directory) as half_made:
            progress(f"building distribution {VERSION} from Go modules (log {builder.log})")
            builder.build(PROGRAM, half_made)
            write(package(half_made / "registry"), half_made)
    except ToolUnavailable as reason:
        raise go.setup_error("registry", reason) from None
