"""The environments of the workloads, apart from what provisions: PyTorch and all that trains, and what serves alone.

The first is 5 GB, so all checkouts share one, keyed by its lock. Nothing but the workloads needs it: `make up` never
makes it. The second is small and without PyTorch; the first has all of it too.
"""

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from rackwright.errors import SetupError
from rackwright.progress import Progress
from rackwright.toolchain import cache, horovod
from rackwright.toolchain.sources import Unavailable

LOCK = horovod.FILES / "training.txt.j2"
SERVING = LOCK.with_name("serving.txt.j2")
"""Both are what the role workloads puts on hosts."""
TRACKING = Path(__file__).parents[2] / "roles/mlflow/templates/opt/rackwright/mlflow/requirements.txt.j2"
"""What the role mlflow puts on hosts."""


@dataclass(frozen=True, slots=True)
class Environment:
    """A virtual environment with everything of the lock."""

    directory: Path
    without_horovod: str = ""
    """Why there is no Horovod in it; empty where there is one."""

    @property
    def python(self) -> Path:
        return self.directory / "bin" / "python"


def ensure(progress: Progress) -> Environment:
    """Return the environment. Installs it and builds Horovod first where needed; *progress* hears of slow work.

    Where Horovod cannot be built the environment says why, and it is tried again the next time.

    Raises:
        SetupError: the packages cannot be installed.
    """
    directory = place()
    if (directory / "ready").exists() and (directory / "horovod").exists():
        return Environment(directory)  # without a lock that somebody may hold for as long as another takes to make
    with cache.locked(directory.parent / "lock", progress):
        if not (directory / "ready").exists():
            _install(directory, LOCK, "3 GB to fetch, 5 GB on the drive", progress)
        if (directory / "horovod").exists():
            return Environment(directory)
        try:
            _add_horovod(Environment(directory).python, progress)
        except Unavailable as reason:
            return Environment(directory, without_horovod=str(reason))
        (directory / "horovod").touch()
        return Environment(directory)


def serving(progress: Progress) -> Environment:
    """Return the environment of a host that serves and does nothing else, installing it first if need be.

    Raises:
        SetupError: the packages cannot be installed.
    """
    return of_lock("serving", SERVING, "273 MB on the drive", progress)


def tracking(progress: Progress) -> Environment:
    """Return an environment with the server that the role mlflow runs, for tests, installing it first if need be.

    Raises:
        SetupError: the packages cannot be installed.
    """
    return of_lock("tracking", TRACKING, "200 MB to fetch, 658 MB on the drive", progress)


def of_lock(name: str, lock: Path, size: str, progress: Progress) -> Environment:
    """Return the environment of *lock*, called by what is in it."""
    key = sha256(f"{sys.version}\n{lock.read_text()}".encode()).hexdigest()[:16]
    directory = cache.directory() / name / key
    with cache.locked(directory.parent / "lock", progress):
        if not (directory / "ready").exists():
            _install(directory, lock, size, progress)
    return Environment(directory, without_horovod="it does not train")


def place() -> Path:
    """Return where the environment is, or will be."""
    return cache.directory() / "workloads" / _key()


def _key() -> str:
    built = horovod.recipe(horovod.flags(os.environ))
    return sha256(f"{sys.version}\n{LOCK.read_text()}\n{built}".encode()).hexdigest()[:16]


def _install(directory: Path, lock: Path, size: str, progress: Progress) -> None:
    """Make the environment where it stays, as its scripts name their interpreter; what is there is half-made."""
    shutil.rmtree(directory, ignore_errors=True)
    name = directory.parent.name
    log = cache.directory() / "logs" / f"{name}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    progress(f"installing the environment of the {name} into {directory}: {size} (log {log})")
    python = str(Environment(directory).python)
    commands = (
        (sys.executable, "-m", "venv", str(directory)),
        # not compiled: most of it is never imported, and Python compiles what is
        (python, "-m", "pip", "--disable-pip-version-check", "install", "--no-compile", "--require-hashes",
         "-r", str(lock)),
    )  # fmt: skip
    for command in commands:
        with log.open("w") as output:
            done = subprocess.run(command, stdout=output, stderr=output)
        if done.returncode != 0:
            last = log.read_text(errors="replace").strip().rpartition("\n")[2]
            fix = f"See {log}, and run this again"
            raise SetupError(str(directory), f"{command[2]} failed: {last}", "the workloads have their packages", fix)
    (directory / "ready").touch()


def _add_horovod(python: Path, progress: Progress) -> None:
    ask = "import platform, importlib.metadata as m; print(platform.python_version(), m.version('torch'))"
    of_python, torch = subprocess.check_output([python, "-c", ask], text=True).split()
    wheel = horovod.wheel(python, (of_python, torch), progress)
    pip = (python, "-m", "pip", "--disable-pip-version-check", "install", "--quiet", "--no-deps", "--no-index", wheel)
    done = subprocess.run(pip, capture_output=True, text=True)
    if done.returncode != 0:
        raise Unavailable(f"Horovod: its wheel cannot be installed: {done.stderr.strip().rpartition(chr(10))[2]}")
