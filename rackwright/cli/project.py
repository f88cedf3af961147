"""Where the command line works, and how it speaks."""

import os
import sys
from pathlib import Path

from rackwright import toolchain
from rackwright.declaration import Stack, load_stack
from rackwright.errors import SetupError


def directory() -> Path:
    """Return the directory of the nearest Pulumi.yaml, from here upward."""
    here = Path.cwd()
    for candidate in (here, *here.parents):
        if (candidate / "Pulumi.yaml").is_file():
            return candidate
    raise SetupError(str(here), "got no Pulumi.yaml here or above", "commands run inside a checkout", "Change into it")


def stack(name: str) -> Stack:
    return load_stack(name, directory())


def say(text: str) -> None:
    """Tell a person how work gets on; stdout stays for results."""
    print(text, file=sys.stderr, flush=True)


def environment() -> dict[str, str]:
    """Return the whole environment in which pulumi works on this project."""
    root = directory()
    toolchain.prepare(root)
    return {**os.environ, **toolchain.environment(root, toolchain.ensure(say), os.environ)}
