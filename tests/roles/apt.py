"""What apt itself says of the files that roles write for it."""

import shutil
import subprocess
from pathlib import Path

import pytest

only_with_apt = pytest.mark.skipif(shutil.which("apt-cache") is None, reason="needs apt")


def priorities(preferences: str, directory: Path) -> str:
    """Return what apt makes of a file of preferences: its pinned packages; where it does not take it, the error."""
    path = directory / "preferences"
    path.write_text(preferences)
    argv = ["apt-cache", "-o", f"Dir::Etc::preferences={path}", "-o", "Dir::Etc::preferencesparts=/dev/null", "policy"]
    done = subprocess.run(argv, capture_output=True, text=True)
    return done.stdout.partition("Pinned packages:")[2] if done.returncode == 0 else done.stderr


def setting(text: str, name: str, directory: Path) -> list[str]:
    """Return the values of a list in a file of apt.conf(5)."""
    path = directory / "apt.conf"
    path.write_text(text)
    argv = ["apt-config", "-c", str(path), "dump", name, "--format", "%v%n"]
    return subprocess.run(argv, capture_output=True, text=True, check=True).stdout.split()
