"""The source files of this repository."""

from pathlib import Path

ROOT = Path(__file__).parents[2]
RUN_ON_HOSTS = (
    "rackwright/facts/digest.py",
    "rackwright/facts/probe/[!_]*.py",
    "rackwright/facts/content.py",
    "rackwright/hosts/onhost/[!_]*.py",
    "rackwright/kinds/pods/roll_out.py",
    "rackwright/qualify/onhost/[!_]*.py",
    "rackwright/erase/onhost/[!_]*.py",
    "rackwright/tiering/onhost/[!_]*.py",
)
"""Sent to hosts and run there, by whatever Python is installed."""


def shown(path: Path) -> str:
    return str(path.relative_to(ROOT))
