"""The stand-in for NVIDIA's management library, compiled on this computer and cached by its content."""

import hashlib
import shutil
import subprocess
from pathlib import Path

from rackwright.errors import Diagnostic, SetupError
from rackwright.progress import Progress
from rackwright.toolchain import cache

SONAME = "libnvidia-ml.so.1"
SOURCE = Path(__file__).parent / "nvml.c"
FLAGS = ("-std=c99", "-O1", "-fPIC", "-shared", f"-Wl,-soname,{SONAME}")
"""Compiler options. With a standard after C99, a newer C library binds functions that the guest's library lacks."""


def ensure(progress: Progress) -> Path:
    """Return the compiled library, and compile it if the cache has none.

    Raises:
        SetupError: There is no C compiler, or it failed.
    """
    content = hashlib.blake2s(SOURCE.read_bytes() + " ".join(FLAGS).encode(), digest_size=8).hexdigest()
    folder = cache.directory() / "twin" / f"nvml-{content}"
    if not folder.exists():
        with cache.hold_lock(folder.with_suffix(".lock"), progress):
            if not folder.exists():
                with cache.replace_directory(folder) as half_made:
                    compile_to(half_made / SONAME)
    return folder / SONAME


def compile_to(target: Path, *flags: str) -> None:
    """Compile the library into *target*, with *flags* in addition to FLAGS."""
    compiler = shutil.which("cc")
    if compiler is None:
        raise _setup_error("the program cc is missing")
    argv = [compiler, *FLAGS, *flags, "-o", str(target), str(SOURCE)]
    result = subprocess.run(argv, capture_output=True, text=True)
    if result.returncode:
        raise _setup_error(f"{compiler} failed: {result.stderr.strip()}")


def _setup_error(problem: str) -> SetupError:
    note = "a C compiler builds the stand-in for NVIDIA's library"
    help = "Install gcc and libc6-dev, or the packages of this system that contain cc"
    return SetupError(Diagnostic("GPUs of the twin", problem, help=help, note=note))
