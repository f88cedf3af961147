"""Choose a toolchain: one on PATH if it is new enough, else the official release, else a build from Go modules."""

import os
import platform
import re
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from rackwright import scratch
from rackwright.errors import Diagnostic, SetupError
from rackwright.progress import Progress
from rackwright.toolchain import build, cache, pins, release
from rackwright.toolchain.run_pulumi import real_directories
from rackwright.toolchain.sources import PROGRAMS, ToolUnavailable


@dataclass(frozen=True, slots=True)
class Toolchain:
    """A directory with pulumi and its language hosts."""

    directory: Path
    version: str
    origin: Literal["path", "release", "modules"]


def ensure(progress: Progress) -> Toolchain:
    """Return a toolchain, after a download or a build if there is none yet.

    Args:
        progress: Receives a line about each slow part of the work.

    Raises:
        SetupError: no source works on this computer; the message has the reason of each.
    """
    reasons = []
    try:
        return _find_on_path()
    except ToolUnavailable as reason:
        reasons.append(str(reason))
    return _find_cached() or _make(reasons, progress)


def find() -> Toolchain | None:
    """Return the toolchain that `ensure` would return without a download or a build; None if there is none."""
    try:
        return _find_on_path()
    except ToolUnavailable:
        return _find_cached()


def _makers() -> dict[Toolchain, Callable[[Path, Progress], None]]:
    """Return the toolchains of the cache with the function that makes each, in the order of preference."""
    root, machine = cache.directory() / "toolchain", platform.machine()
    return {
        Toolchain(root / f"{pins.RELEASE}-release-{machine}", pins.RELEASE, "release"): release.fetch,
        Toolchain(root / f"{pins.CLI}-modules-{build.digest()}-{machine}", pins.CLI, "modules"): build.build,
    }


def _find_on_path() -> Toolchain:
    command = shutil.which("pulumi", path=os.pathsep.join(real_directories()))
    if command is None:
        raise ToolUnavailable("PATH: there is no pulumi")
    directory = Path(command).parent
    for toolchain in _makers():
        if directory == toolchain.directory:
            return toolchain
    for name in PROGRAMS:
        if not (directory / name).exists():
            raise ToolUnavailable(f"PATH: {command} has no {name} beside it")
    version = _version(command)
    if tuple(map(int, re.findall(r"\d+", version)[:3])) < pins.MINIMUM:
        raise ToolUnavailable(f"PATH: {command} is {version}, older than {'.'.join(map(str, pins.MINIMUM))}")
    return Toolchain(directory, version, "path")


def _find_cached() -> Toolchain | None:
    return next((toolchain for toolchain in _makers() if toolchain.directory.is_dir()), None)


def _make(reasons: list[str], progress: Progress) -> Toolchain:
    with cache.hold_lock(cache.directory() / "toolchain" / "lock", progress):
        if cached := _find_cached():  # another process made it while it held the lock
            return cached
        for toolchain, make in _makers().items():
            try:
                with cache.replace_directory(toolchain.directory) as directory:
                    make(directory, progress)
                    if (version := _version(str(directory / "pulumi"))) != toolchain.version:
                        raise ToolUnavailable(f"{toolchain.origin}: pulumi reports {version}, not {toolchain.version}")
            except ToolUnavailable as reason:
                progress(str(reason))
                reasons.append(str(reason))
            else:
                return toolchain
    raise SetupError(
        Diagnostic(
            "pulumi",
            f"no usable Pulumi: {'; '.join(reasons)}",
            f"Pulumi {'.'.join(map(str, pins.MINIMUM))} or newer with its Python language host",
            "Install Pulumi, or Go 1.21 or newer to build it, and run the command again",
            id="pulumi-missing",
        )
    )


def _version(command: str) -> str:
    """Return the version that *command* reports, such as v3.274.1.

    Raises:
        ToolUnavailable: the command does not run.
    """
    with scratch.directory() as home:  # for its log, which it writes even for this
        environment = os.environ | {"PULUMI_SKIP_UPDATE_CHECK": "true", "PULUMI_HOME": str(home)}
        try:
            answer = subprocess.run([command, "version"], env=environment, capture_output=True, text=True, check=True)
        except (OSError, subprocess.CalledProcessError) as error:
            raise ToolUnavailable(f"{command} does not run: {error}") from error
    return answer.stdout.strip()
