"""The source files of this repository."""

import re
from collections.abc import Callable, Collection, Iterable
from pathlib import Path

ROOT = Path(__file__).parents[2]
RUN_ON_HOSTS = (
    "rackwright/facts/digest.py",
    "rackwright/facts/probe/[!_]*.py",
    "rackwright/facts/content.py",
    "rackwright/hosts/onhost/[!_]*.py",
    "rackwright/kinds/pods/roll_out.py",
    "rackwright/quarantine/onhost/[!_]*.py",
    "rackwright/qualify/onhost/[!_]*.py",
    "rackwright/erase/onhost/[!_]*.py",
    "rackwright/tiering/onhost/[!_]*.py",
)
"""Sent to hosts and run there, by whatever Python is installed."""


PATH = re.compile(r"`((?:rackwright|workloads|roles|playbooks|stacks|templates|tests|docs|benchmarks)/[a-z0-9_./-]*)`")


def errors_of_map() -> list[str]:
    """Return the folders of rackwright that the map of CONTRIBUTING lacks, and its paths that do not exist."""
    text = (ROOT / "CONTRIBUTING.md").read_text()
    rows = text.partition("## The map")[2].partition("\n## ")[0]
    folders = sorted(path.name for path in (ROOT / "rackwright").iterdir() if (path / "__init__.py").exists())
    missing = [f"no row for {name}/" for name in folders if not re.search(rf"`(?:rackwright/)?{name}/`", rows)]
    return missing + sorted({f"no {path}" for path in PATH.findall(text) if not (ROOT / path).exists()})


def shown(path: Path) -> str:
    return str(path.relative_to(ROOT))


def found_in(paths: Iterable[Path], find: Callable[[Path], Collection[str]]) -> dict[str, Collection[str]]:
    """Return what *find* finds in each of *paths*, by path, without the paths in which it finds nothing."""
    return {shown(path): found for path in paths if (found := find(path))}
