"""The stand-in for NVIDIA's management library, compiled on this computer and kept by content."""

import hashlib
import shutil
import subprocess
from pathlib import Path

from rackwright.errors import SetupError
from rackwright.progress import Progress
from rackwright.toolchain import cache

SONAME = "libnvidia-ml.so.1"
SOURCE = Path(__file__).parent / "nvml.c"
FLAGS = ("-std=c99", "-O1", "-fPIC", "-shared", f"-Wl,-soname,{SONAME}")
"""c99: with a later standard a newer C library would bind functions that the guest's does not have."""


def library(progress: Progress) -> Path:
    """Return the compiled library.

    Raises:
        SetupError: there is no C compiler, or it failed.
    """
    content = hashlib.blake2s(SOURCE.read_bytes() + " ".join(FLAGS).encode(), digest_size=8).hexdigest()
    folder = cache.directory() / "twin" / f"nvml-{content}"
    if not folder.exists():
        with cache.locked(folder.with_suffix(".lock"), progress):
            if not folder.exists():
                with cache.filling(folder) as half_made:
                    compile_to(half_made / SONAME)
    return folder / SONAME


def compile_to(target: Path, *flags: str) -> None:
    """Compile the library into *target*, with *flags* beside its own."""
    compiler = shutil.which("cc")
    if compiler is None:
        raise _cannot("there is no cc on PATH")
    argv = [compiler, *FLAGS, *flags, "-o", str(target), str(SOURCE)]
    done = subprocess.run(argv, capture_output=True, text=True)
    if done.returncode:
        raise _cannot(f"{compiler} said: {done.stderr.strip()}")


def _cannot(got: str) -> SetupError:
    want = "the stand-in for NVIDIA's library is compiled here"
    return SetupError("GPUs of the twin", got, want, "Install gcc and libc6-dev, or what brings cc on this system")
