"""Commands in a shell as a user pastes them."""

import os
import subprocess
from pathlib import Path

from tests.support.log import ROOT


def paste(directory: Path, text: str, stdin: str = "", **environment: str) -> "subprocess.CompletedProcess[str]":
    """Run *text* in a shell as a user does, without variables of pulumi."""
    without = {name: value for name, value in os.environ.items() if not name.startswith(("PULUMI", "RACKWRIGHT_ROOT"))}
    return subprocess.run(
        ["bash", "-c", text],
        cwd=directory,
        env={**without, "PATH": f"{ROOT}/.venv/bin:{without['PATH']}", **environment},
        input=stdin,
        capture_output=True,
        text=True,
        timeout=300,
    )
