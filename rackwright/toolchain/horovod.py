"""Build Horovod from its released source with a patch, and keep the wheel in the cache.

Horovod links PyTorch's C++ symbols, so a wheel fits one Python, one PyTorch, one processor architecture and one patch.
"""

import os
import platform
import re
import shlex
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from hashlib import sha256
from pathlib import Path

import jinja2

from rackwright import locations, process_tree, scratch
from rackwright.progress import Progress
from rackwright.toolchain import cache
from rackwright.toolchain.sources import ToolUnavailable

FILES = locations.repository() / "roles/workloads/templates/opt/rackwright/workloads"
"""Files with which the role workloads builds Horovod on hosts: the source's hash, the patch, the flags, the script."""
PATCH = FILES / "horovod.patch.j2"
SOURCE = (FILES / "horovod.txt.j2").read_text()
[VERSION] = re.findall("^horovod==([0-9.]+) ", SOURCE, re.MULTILINE)
REPORT_SECONDS = 30


def flags(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the flags of the build: those of the role, and the variables for Horovod's build in *environment*.

    HOROVOD_GPU_OPERATIONS=NCCL needs a CUDA toolkit and has not been tested.
    """
    text = jinja2.Template((FILES / "horovod.env.j2").read_text()).render(workloads_operations="")
    defaults = dict(line.split("=", 1) for line in text.splitlines() if re.match(r"\w+=", line))
    return defaults | {name: value for name, value in environment.items() if re.match("HOROVOD_(WITH|GPU|BUILD)", name)}


def key(python: str, torch: str, build_flags: Mapping[str, str]) -> str:
    """Return the key of the wheel for these versions and these flags."""
    return sha256("\n".join([python, torch, platform.machine(), recipe(build_flags)]).encode()).hexdigest()[:16]


def recipe(build_flags: Mapping[str, str]) -> str:
    """Return the text of all inputs of a build with these flags, except for the machine."""
    script = (FILES / "horovod.sh.j2").read_text()
    return "\n".join([SOURCE, repr(sorted(build_flags.items())), PATCH.read_text(), script])


def wheel(python: Path, versions: tuple[str, str], progress: Progress) -> Path:
    """Return the wheel for the environment of *python*, after a build of minutes on few cores if there is none yet.

    Args:
        python: Interpreter of an environment with PyTorch, cmake, setuptools and wheel.
        versions: Versions of Python and PyTorch in the environment.

    Raises:
        ToolUnavailable: the build is not possible here; the message has the reason and the path of the log.
    """
    build_flags = flags(os.environ)
    directory = cache.directory() / "horovod" / key(*versions, build_flags)
    with cache.hold_lock(cache.directory() / "horovod" / "lock", progress):
        if not directory.is_dir():
            missing = [command for command in ("c++", "make", "patch") if shutil.which(command) is None]
            if missing:
                raise ToolUnavailable(f"Horovod: there is no {', '.join(missing)} on PATH")
            with cache.replace_directory(directory) as into:
                _build(python, into, build_flags, progress)
    return next(directory.glob("*.whl"))


def _build(python: Path, into: Path, build_flags: Mapping[str, str], progress: Progress) -> None:
    log = cache.directory() / "logs" / "horovod.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    progress(f"building Horovod {VERSION} (log {log})")
    with scratch.directory() as beside:
        for name in ("horovod.sh", "horovod.txt", "horovod.patch"):
            shutil.copy(FILES / f"{name}.j2", beside / name)
        Path(beside, "horovod.env").write_text(
            "".join(f"{name}={shlex.quote(value)}\n" for name, value in build_flags.items())
        )
        _run(("sh", f"{beside}/horovod.sh", str(python), str(into)), log, progress)


def _run(command: Sequence[str], log: Path, progress: Progress) -> None:
    with log.open("w") as output:
        process = process_tree.start(command, stdout=output, stderr=output)
        try:
            while process.poll() is None:
                try:
                    process.wait(REPORT_SECONDS)
                except subprocess.TimeoutExpired:
                    progress(f"  {_last_line(log)[:100]}")
        except BaseException:
            process_tree.stop(process)  # with its compilers
            raise
    if process.returncode != 0:
        raise ToolUnavailable(f"Horovod: the build failed: {_last_line(log)} (log {log})")


def _last_line(log: Path) -> str:
    return log.read_text(errors="replace").strip().rpartition("\n")[2].strip()
