"""Files of metrics: written below a directory of root's alone."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from rackwright.facts.metrics_text import write_file

NAME = "rackwright_drives.prom"


def link(place: Path, target: Path) -> None:
    place.symlink_to(target)


def of_group(place: Path, target: Path) -> None:
    place.mkdir()
    place.chmod(0o775)


def of_all(place: Path, target: Path) -> None:
    place.mkdir()
    place.chmod(0o777)


def of_another(place: Path, target: Path) -> None:
    if os.geteuid():
        pytest.skip("only root makes directories of other accounts")
    place.mkdir()
    os.chown(place, 65534, 65534)


@pytest.mark.parametrize("make", [link, of_group, of_all, of_another])
def test_metrics_are_written_to_no_directory_of_another_account(tmp_path: Path, make: Callable[[Path, Path], None]):
    """The account of Prometheus owns the parent directory on the monitoring host."""
    target, place = tmp_path / "target", tmp_path / "node-exporter"
    target.mkdir(mode=0o700)
    make(place, target)
    with pytest.raises(OSError):
        write_file(f"{place}/{NAME}", "x 1\n")

    assert [*target.iterdir()] == [*place.iterdir()] == []


def test_a_file_is_replaced_whole_and_a_link_in_its_place_is_not_followed(tmp_path: Path):
    place, other = tmp_path / "node-exporter", tmp_path / "other"
    place.mkdir(mode=0o755)
    other.write_text("kept")
    for name in (NAME, f"{NAME}.tmp"):
        (place / name).symlink_to(other)
    write_file(f"{place}/{NAME}", "x 1\n")

    assert ((place / NAME).read_text(), other.read_text()) == ("x 1\n", "kept")
    assert [path.name for path in place.iterdir()] == [NAME] and not (place / NAME).is_symlink()
    assert (place / NAME).stat().st_mode & 0o777 == 0o644 & ~_umask()


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
