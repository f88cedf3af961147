"""The root filesystem that containers share; each container overlays it with its own changes."""

from pathlib import Path

from rackwright.progress import Progress
from rackwright.twin import image as shared
from rackwright.twin.image import ImageBuilder, require


def root(os_name: str) -> Path:
    """Return the path of the root filesystem of *os_name*, which may not exist yet."""
    return shared.image_path(os_name, "container") / "root"


def prepare(os_name: str, progress: Progress) -> Path:
    """Return the root filesystem of *os_name*, and build it if this computer has none."""
    return shared.prepare(os_name, "container", _build, progress) / "root"


def _build(builder: ImageBuilder, target: Path) -> None:
    require("mmdebstrap")
    directory = target / "root"
    builder.bootstrap(directory, "container")
    builder.run(["sh", str(builder.guest / "system.sh"), str(directory)])
