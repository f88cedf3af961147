"""What is sent to a host to do steps there: the runner, with the modules by which the probe reads drives and arrays."""

import json
from functools import cache
from importlib.resources import files

from rackwright.facts import probe

RUNNER = "rackwright.apply.runner"
LOADER = probe.LOADER.replace("buffer.read()", "buffer.readline()")
COMMAND = ("python3", "-I", "-S", "-X", "utf8", "-c", LOADER, "steps")
"""Run on the host, as root; the last argument tells it from a probe in a list of processes."""


def first_line(**job: object) -> bytes:
    """Return what the command reads first: its source, and the *job* for the runner's ``main``."""
    return json.dumps({"modules": [*probe.modules(), (RUNNER, _source())], "loader": LOADER, **job}).encode() + b"\n"


@cache
def _source() -> str:
    return files("rackwright.apply").joinpath("runner.py").read_text()
