"""The root filesystem that containers share: each sees it below what it has changed itself."""

from pathlib import Path

from rackwright.progress import Progress
from rackwright.twin import image as shared
from rackwright.twin.image import Workshop, require


def root(os_name: str) -> Path:
    """Return where the root filesystem of *os_name* is, or will be."""
    return shared.place(os_name, "container") / "root"


def prepare(os_name: str, progress: Progress) -> Path:
    """Return the root filesystem of *os_name*, built if this computer has none."""
    return shared.prepare(os_name, "container", _build, progress) / "root"


def _build(workshop: Workshop, target: Path) -> None:
    require("mmdebstrap")
    directory = target / "root"
    workshop.bootstrap(directory, "container")
    workshop.run(["sh", str(workshop.guest / "system.sh"), str(directory)])
