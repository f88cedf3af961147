"""Collect the source of the runner for a host, with the probe modules that read drives and arrays."""

import json
from functools import cache
from importlib.resources import files

from rackwright.facts import probe

PACKAGE = "rackwright.hosts.onhost"
RUNNER_MODULES = ("messages", "references", "put_files", "runner")
"""The runner is the last one; each module follows those that it imports."""
ON_DRIVES = "on_drives"
"""The module that writes to drives, in a separate process."""
DRIVES_MODULES = (
    "content",
    "probe.observe",
    "probe.superblocks",
    "probe.health",
    "probe.signature_check",
    "probe.arrays",
    "probe.block",
)
"""The modules that ON_DRIVES imports."""
LOADER = probe.LOADER.replace("buffer.read()", "buffer.readline()")
COMMAND = (probe.INTERPRETER, "-I", "-S", "-X", "utf8", "-c", LOADER, "steps")
"""Command for the host, run as root. Its last argument distinguishes it from a probe in a process list."""


def from_file(path: str) -> tuple[str, ...]:
    """Return the command that reads a job from a file of the host, and runs its last module."""
    loader = probe.LOADER.replace("sys.stdin.buffer.read()", f"open({path!r}, 'rb').read()")
    return (*probe.command()[:-1], loader)


def on_drives() -> list[tuple[str, str]]:
    """Return the modules that hold and check drives, each after the modules that it imports."""
    return [*probe.modules(DRIVES_MODULES), _module(ON_DRIVES)]


def first_line(**job: object) -> bytes:
    """Return the first line of input of COMMAND: its source, and the *job* for the runner's ``main``."""
    path = f"{job['directory']}/drives.json"
    drives = {"path": path, "command": from_file(path), "modules": on_drives()}
    modules = [*probe.modules(), *map(_module, RUNNER_MODULES)]
    return json.dumps({"modules": modules, "loader": LOADER, "drives": drives, **job}).encode() + b"\n"


@cache
def _module(name: str) -> tuple[str, str]:
    """Return the full name and the source of a module that runs on hosts."""
    return f"{PACKAGE}.{name}", files(PACKAGE).joinpath(f"{name}.py").read_text()
