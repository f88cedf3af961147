"""One run of a benchmark at its smallest size: it has to end well, and to print its figures."""

import json
import subprocess
import sys
from typing import Any


def smallest(name: str, *arguments: str) -> dict[str, Any]:
    """Return what `python -m NAME ARGUMENTS --smallest` prints for machines, in this environment."""
    argv = [sys.executable, "-m", name, *arguments, "--smallest"]
    done = subprocess.run(argv, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-4000:]
    figures: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return figures
