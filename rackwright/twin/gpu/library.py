"""The stand-ins for NVIDIA's libraries, compiled on this computer and cached by their content."""

import hashlib
import shutil
import subprocess
from pathlib import Path

from rackwright.errors import Diagnostic, SetupError
from rackwright.progress import Progress
from rackwright.toolchain import cache

SONAME = "libnvidia-ml.so.1"
CUDA = "libcuda.so.1"
SOURCES = {SONAME: Path(__file__).parent / "nvml.c", CUDA: Path(__file__).parent / "cuda.c"}
"""Source of each library, by the name that programs ask for."""
FLAGS = ("-std=c99", "-O1", "-fPIC", "-shared")
"""Compiler options. With a standard after C99, a newer C library binds functions that the guest's library lacks."""


def ensure(progress: Progress) -> Path:
    """Return the folder of the compiled libraries, and compile them if the cache has none.

    Raises:
        SetupError: There is no C compiler, or it failed.
    """
    content = b"".join(source.read_bytes() for source in SOURCES.values()) + " ".join(FLAGS).encode()
    folder = cache.directory() / "twin" / f"nvidia-{hashlib.blake2s(content, digest_size=8).hexdigest()}"
    if not folder.exists():
        with cache.hold_lock(folder.with_suffix(".lock"), progress):
            if not folder.exists():
                with cache.replace_directory(folder) as half_made:
                    for name in SOURCES:
                        compile_to(half_made / name)
    return folder


def compile_to(target: Path, *flags: str) -> None:
    """Compile the library *target*, a name of SOURCES in any folder, with *flags* in addition to FLAGS."""
    compiler = shutil.which("cc")
    if compiler is None:
        raise _setup_error("the program cc is missing")
    argv = [compiler, *FLAGS, f"-Wl,-soname,{target.name}", *flags, "-o", str(target), str(SOURCES[target.name])]
    result = subprocess.run(argv, capture_output=True, text=True)
    if result.returncode:
        raise _setup_error(f"{compiler} failed: {result.stderr.strip()}")


def _setup_error(problem: str) -> SetupError:
    note = "a C compiler builds the stand-ins for NVIDIA's libraries"
    help = "Install gcc and libc6-dev, or the packages of this system that contain cc"
    return SetupError(Diagnostic("GPUs of the twin", problem, help=help, note=note))
