"""Which toolchain: the one on PATH if it is new enough, else the official release, else one built from Go modules."""

import os
import platform
import re
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from rackwright.errors import SetupError
from rackwright.progress import Progress
from rackwright.toolchain import build, cache, pins, release
from rackwright.toolchain.sources import PROGRAMS, WRAPPER, Unavailable


@dataclass(frozen=True, slots=True)
class Toolchain:
    """A directory that holds pulumi, its Python language host, and the host's script."""

    directory: Path
    version: str
    origin: Literal["path", "release", "modules"]


def ensure(progress: Progress) -> Toolchain:
    """Return a toolchain, fetching or building it first if need be; *progress* hears about everything slow.

    Raises:
        SetupError: There is no way on this computer, and why each was none.
    """
    reasons = []
    try:
        return _on_path()
    except Unavailable as reason:
        reasons.append(str(reason))
    return _cached() or _make(reasons, progress)


def _places() -> dict[Toolchain, Callable[[Path, Progress], None]]:
    """Return where toolchains of our own lie and how each is made, the preferred one first."""
    root, machine = cache.directory() / "toolchain", platform.machine()
    return {
        Toolchain(root / f"{pins.RELEASE}-release-{machine}", pins.RELEASE, "release"): release.fetch,
        Toolchain(root / f"{pins.CLI}-modules-{machine}", pins.CLI, "modules"): build.build,
    }


def _on_path() -> Toolchain:
    path = [each for each in os.get_exec_path() if Path(each).resolve() != WRAPPER.resolve()]
    command = shutil.which("pulumi", path=os.pathsep.join(path))
    if command is None:
        raise Unavailable("PATH: there is no pulumi")
    directory = Path(command).parent
    for ours in _places():
        if directory == ours.directory:
            return ours
    for name in PROGRAMS:
        if not (directory / name).exists():
            raise Unavailable(f"PATH: {command} has no {name} beside it")
    version = _version(command)
    if tuple(map(int, re.findall(r"\d+", version)[:3])) < pins.MINIMUM:
        raise Unavailable(f"PATH: {command} is {version}, older than {'.'.join(map(str, pins.MINIMUM))}")
    return Toolchain(directory, version, "path")


def _cached() -> Toolchain | None:
    return next((toolchain for toolchain in _places() if toolchain.directory.is_dir()), None)


def _make(reasons: list[str], progress: Progress) -> Toolchain:
    with cache.locked(cache.directory() / "toolchain" / "lock", progress):
        if made := _cached():  # by whoever held the lock before
            return made
        for toolchain, make in _places().items():
            try:
                with cache.filling(toolchain.directory) as directory:
                    make(directory, progress)
                    if (version := _version(str(directory / "pulumi"))) != toolchain.version:
                        raise Unavailable(f"{toolchain.origin}: pulumi says it is {version}, not {toolchain.version}")
            except Unavailable as reason:
                progress(str(reason))
                reasons.append(str(reason))
            else:
                return toolchain
    raise SetupError(
        "pulumi",
        "; ".join(reasons),
        f"pulumi {'.'.join(map(str, pins.MINIMUM))} or newer with its Python language host is needed",
        "Install Pulumi, or Go 1.21 or newer, and run this again",
    )


def _version(command: str) -> str:
    """Return what *command* says of its version, such as v3.274.1; of a broken one, what went wrong."""
    environment = os.environ | {"PULUMI_SKIP_UPDATE_CHECK": "true"}
    try:
        answer = subprocess.run([command, "version"], env=environment, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        raise Unavailable(f"{command} does not run: {error}") from error
    return answer.stdout.strip()
