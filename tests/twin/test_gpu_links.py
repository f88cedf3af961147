"""Links to the stand-ins for NVIDIA's libraries, where a driver has its own."""

import subprocess
from pathlib import Path

from rackwright.twin.gpu.library import CUDA, SONAME
from rackwright.twin.gpu.plug import FOLDER, LINK_LIBRARIES


def test_links_replace_earlier_links_and_no_driver(tmp_path: Path):
    folder, place = tmp_path / "stand-ins", tmp_path / "place"
    for directory in (folder, place):
        directory.mkdir()
    (folder / CUDA).touch()
    (folder / SONAME).touch()
    (place / CUDA).write_text("a driver's own")
    (place / SONAME).symlink_to(folder / "earlier")
    script = f"set -e\nplace={place}\n{LINK_LIBRARIES.replace(FOLDER, str(folder))}"
    for _ in range(2):
        subprocess.run(["sh", "-c", script], check=True)

    assert (place / CUDA).read_text() == "a driver's own"
    assert (place / SONAME).readlink() == folder / SONAME
    (folder / SONAME).unlink()
    subprocess.run(["sh", "-c", script], check=True)
    assert not (place / SONAME).is_symlink()
