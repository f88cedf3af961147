"""Horovod, built from its released source with what makes it compile here; the wheel is kept in the cache.

It links PyTorch's C++ symbols, so a wheel is for one Python, one PyTorch, one sort of processor and one patch.
"""

import os
import platform
import re
import shlex
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from hashlib import sha256
from pathlib import Path

import jinja2

from rackwright.progress import Progress
from rackwright.toolchain import cache
from rackwright.toolchain.sources import Unavailable

FILES = Path(__file__).parents[2] / "roles/workloads/templates/opt/rackwright/workloads"
"""What role workloads builds it with on hosts: its source by hash, the patch, the flags, and the script."""
PATCH = FILES / "horovod.patch.j2"
SOURCE = (FILES / "horovod.txt.j2").read_text()
[VERSION] = re.findall("^horovod==([0-9.]+) ", SOURCE, re.MULTILINE)
REPORT_SECONDS = 30


def flags(environment: Mapping[str, str]) -> dict[str, str]:
    """Return how it is built, with what of *environment* is meant for Horovod's build.

    Whoever has a CUDA toolkit sets HOROVOD_GPU_OPERATIONS=NCCL, which has not been tried here.
    """
    written = jinja2.Template((FILES / "horovod.env.j2").read_text()).render(workloads_operations="")
    known = dict(line.split("=", 1) for line in written.splitlines() if re.match(r"\w+=", line))
    return known | {name: value for name, value in environment.items() if re.match("HOROVOD_(WITH|GPU|BUILD)", name)}


def key(python: str, torch: str, built: Mapping[str, str]) -> str:
    """Return what names the wheel for these versions, built with these flags."""
    return sha256("\n".join([python, torch, platform.machine(), recipe(built)]).encode()).hexdigest()[:16]


def recipe(built: Mapping[str, str]) -> str:
    """Return all that decides what is built with these flags, but for the machine."""
    return "\n".join([SOURCE, repr(sorted(built.items())), PATCH.read_text(), (FILES / "horovod.sh.j2").read_text()])


def wheel(python: Path, versions: tuple[str, str], progress: Progress) -> Path:
    """Return the wheel for the environment of *python*, building it first if need be: minutes on few cores.

    Args:
        python: Of an environment that has PyTorch, cmake, setuptools and wheel.
        versions: Of Python and of PyTorch there.

    Raises:
        Unavailable: it cannot be built here; says why, and where the log is.
    """
    built = flags(os.environ)
    directory = cache.directory() / "horovod" / key(*versions, built)
    with cache.locked(cache.directory() / "horovod" / "lock", progress):
        if not directory.is_dir():
            missing = [command for command in ("c++", "make", "patch") if shutil.which(command) is None]
            if missing:
                raise Unavailable(f"Horovod: there is no {', '.join(missing)} on PATH")
            with cache.filling(directory) as into:
                _build(python, into, built, progress)
    return next(directory.glob("*.whl"))


def _build(python: Path, into: Path, built: Mapping[str, str], progress: Progress) -> None:
    log = cache.directory() / "logs" / "horovod.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    progress(f"building Horovod {VERSION} (log {log})")
    with tempfile.TemporaryDirectory(prefix="rackwright-horovod-") as beside:
        for name in ("horovod.sh", "horovod.txt", "horovod.patch"):
            shutil.copy(FILES / f"{name}.j2", Path(beside, name))
        Path(beside, "horovod.env").write_text(
            "".join(f"{name}={shlex.quote(value)}\n" for name, value in built.items())
        )
        _run(("sh", f"{beside}/horovod.sh", str(python), str(into)), log, progress)


def _run(command: Sequence[str], log: Path, progress: Progress) -> None:
    with log.open("w") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output, start_new_session=True)
        try:
            while process.poll() is None:
                try:
                    process.wait(REPORT_SECONDS)
                except subprocess.TimeoutExpired:
                    progress(f"  {_last(log)[:100]}")
        except BaseException:
            os.killpg(process.pid, signal.SIGTERM)  # the compilers, too
            process.wait()
            raise
    if process.returncode != 0:
        raise Unavailable(f"Horovod: its build failed: {_last(log)} (log {log})")


def _last(log: Path) -> str:
    return log.read_text(errors="replace").strip().rpartition("\n")[2].strip()
