"""Horovod, built from its released source with what makes it compile here; the wheel is kept in the cache.

It links PyTorch's C++ symbols, so a wheel is for one Python, one PyTorch, one sort of processor and one patch.
"""

import os
import platform
import re
import shutil
import subprocess
from collections.abc import Callable, Mapping, Sequence
from hashlib import sha256
from pathlib import Path

from rackwright.toolchain import cache
from rackwright.toolchain.ways import Unavailable

VERSION = "0.28.1"
SHA256 = "92a43f5a94c43907a56805bad15f19700c62ffc83b7ca483f9e104e229f67ef0"
"""Of the source archive."""

PATCH = Path(__file__).parent / f"horovod-{VERSION}.patch"
REPORT_SECONDS = 30

FLAGS = {
    "HOROVOD_WITH_PYTORCH": "1",
    "HOROVOD_WITHOUT_TENSORFLOW": "1",
    "HOROVOD_WITHOUT_MXNET": "1",
    "HOROVOD_WITH_GLOO": "1",
    "HOROVOD_WITHOUT_MPI": "1",
    "HOROVOD_BUILD_ARCH_FLAGS": "-mf16c -mavx -mfma" if platform.machine() == "x86_64" else "",
    "LDFLAGS": "-Wl,-s",  # without the symbols that debuggers read: 1 MB instead of 40
}
"""How it is built. Whoever has a CUDA toolkit sets HOROVOD_GPU_OPERATIONS=NCCL, which has not been tried here."""


def flags(environment: Mapping[str, str]) -> dict[str, str]:
    """Return FLAGS with what of *environment* is meant for Horovod's build."""
    return FLAGS | {name: value for name, value in environment.items() if re.match("HOROVOD_(WITH|GPU|BUILD)", name)}


def key(python: str, torch: str, built: Mapping[str, str]) -> str:
    """Return what names the wheel for these versions, built with these flags."""
    parts = [VERSION, SHA256, python, torch, platform.machine(), repr(sorted(built.items())), PATCH.read_text()]
    return sha256("\n".join(parts).encode()).hexdigest()[:16]


def wheel(python: Path, versions: tuple[str, str], say: Callable[[str], None]) -> Path:
    """Return the wheel for the environment of *python*, building it first if need be: minutes on few cores.

    Args:
        python: Of an environment that has PyTorch, cmake, setuptools and wheel.
        versions: Of Python and of PyTorch there.

    Raises:
        Unavailable: it cannot be built here; says why, and where the log is.
    """
    built = flags(os.environ)
    directory = cache.directory() / "horovod" / key(*versions, built)
    with cache.locked(cache.directory() / "horovod" / "lock", say):
        if not directory.is_dir():
            missing = [command for command in ("c++", "make", "patch") if shutil.which(command) is None]
            if missing:
                raise Unavailable(f"Horovod: there is no {', '.join(missing)} on PATH")
            with cache.filling(directory) as into:
                _build(python, into, built, say)
    return next(directory.glob("*.whl"))


def _build(python: Path, into: Path, built: Mapping[str, str], say: Callable[[str], None]) -> None:
    log = cache.directory() / "logs" / "horovod.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    log.write_text("")
    say(f"building Horovod {VERSION} (log {log})")
    work = into / "work"
    work.mkdir()
    pinned = work / "pinned.txt"
    pinned.write_text(f"horovod=={VERSION} --hash=sha256:{SHA256}\n")
    pip = (str(python), "-m", "pip", "--disable-pip-version-check")
    # cmake, from the environment; and as many compilers at once as there are cores
    path = f"{python.parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
    environment = {"MAKEFLAGS": f"-j{os.cpu_count()}", **os.environ, **built, "PATH": path}

    def run(*command: str, cwd: Path = work) -> None:
        _run(command, cwd, environment, log, say)

    source = ("--no-binary=:all:", "--no-deps", "--no-build-isolation")
    run(*pip, "download", "--require-hashes", *source, "-r", str(pinned))
    shutil.unpack_archive(work / f"horovod-{VERSION}.tar.gz", work, filter="data")
    unpacked = work / f"horovod-{VERSION}"
    run("patch", "--forward", "-p1", "-i", str(PATCH), cwd=unpacked)
    run(*pip, "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(into), ".", cwd=unpacked)
    shutil.rmtree(work)


def _run(
    command: Sequence[str], cwd: Path, environment: Mapping[str, str], log: Path, say: Callable[[str], None]
) -> None:
    with log.open("a") as output:
        process = subprocess.Popen(command, cwd=cwd, env=environment, stdout=output, stderr=output)
        try:
            while process.poll() is None:
                try:
                    process.wait(REPORT_SECONDS)
                except subprocess.TimeoutExpired:
                    say(f"  {_last(log)[:100]}")
        except BaseException:
            process.terminate()
            process.wait()
            raise
    if process.returncode != 0:
        raise Unavailable(f"Horovod: {command[0].rpartition('/')[2]} failed: {_last(log)} (log {log})")


def _last(log: Path) -> str:
    return log.read_text(errors="replace").strip().rpartition("\n")[2].strip()
