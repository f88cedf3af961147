"""Wheels of rackwright: their build, and their installation with the dependencies of this checkout."""

import os
import subprocess
import sys
import sysconfig
from pathlib import Path

from tests.support.sources import ROOT


def build(directory: Path, source: Path = ROOT) -> Path:
    """Return the wheel of the checkout *source*, built in *directory*, which has no other wheel."""
    argv = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(directory)]
    environment = {**os.environ, "SOURCE_DATE_EPOCH": "315532800"}
    subprocess.run(argv, cwd=source, check=True, capture_output=True, env=environment)
    [wheel] = directory.glob("*.whl")
    return wheel


def install(wheel: Path, directory: Path) -> Path:
    """Return the programs of a new virtual environment *directory* with *wheel*."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", directory], check=True)
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", str(directory / "bin/python")]
    subprocess.run([*pip, "install", "--quiet", "--no-deps", "--no-compile", "--no-index", str(wheel)], check=True)
    [packages] = directory.glob("lib/python*/site-packages")
    (packages / "dependencies.pth").write_text(sysconfig.get_path("purelib"))
    return directory / "bin"
