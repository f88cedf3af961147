"""The two directories that commands read: rackwright's own files beside its modules, and the project of the user."""

import sys
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent


def repository() -> Path:
    """Return the directory with roles/, playbooks/, templates/, workloads/ and the examples in stacks/.

    In a checkout it is the root; in an installation from a wheel, it is rackwright/data.
    """
    data = PACKAGE / "data"
    return data if data.is_dir() else PACKAGE.parent


def commit() -> str | None:
    """Return the commit of the checkout, or of that which built the wheel; -dirty follows after a change."""
    if repository() != PACKAGE.parent:
        file = PACKAGE / "commit.txt"
        return file.read_text().strip() if file.is_file() else None
    import subprocess  # here, because every command imports this module

    argv = ["git", "-C", str(PACKAGE), "describe", "--always", "--dirty", "--exclude=*"]
    with suppress(OSError):
        return subprocess.run(argv, capture_output=True, text=True).stdout.strip() or None
    return None


def find_project(start: Path) -> Path | None:
    """Return the directory of the nearest Pulumi.yaml, in *start* or above; None if there is none."""
    return next((place for place in (start, *start.parents) if (place / "Pulumi.yaml").is_file()), None)


def stack_names(project: Path) -> list[str]:
    """Return the names of the stacks that have settings in *project*."""
    paths = project.glob("stacks/Pulumi.*.yaml")
    return sorted(path.name.removeprefix("Pulumi.").removesuffix(".yaml") for path in paths)


def relative_path(path: Path) -> Path:
    """Return *path* relative to the current directory if it is below it, as a user types it."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def make_workloads_importable() -> None:
    """Append repository() to the search path, from which Python then imports the package workloads.

    Raises:
        ImportError: Another package has this name and comes first.
    """
    if str(repository()) not in sys.path:
        sys.path.append(str(repository()))
    spec = find_spec("workloads")
    origin = Path(spec.origin).resolve() if spec and spec.origin else None
    if origin is None or origin.parents[1] != repository():
        problem = (
            f"Python finds another package named workloads: {origin}" if origin else "there is no package workloads"
        )
        raise ImportError(f"{problem}. rackwright needs its own in {repository()}. Rename the other package.")
