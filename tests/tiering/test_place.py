"""Placement on a host: its program lists directories with their use, and moves one to another tier."""

import os
from pathlib import Path

import pytest

from rackwright.errors import StepFailed
from rackwright.tiering.meter import Meter
from rackwright.tiering.remote import HostDirectory
from tests.support.host_program import LocalHost

METER = Meter(lambda text: None, "copied", 0)


@pytest.fixture
def mount(tmp_path) -> Path:
    """A tier with two directories of models."""
    for path, content in {"models/a/1.bin": b"a" * 1000, "models/a/deep/2.bin": b"b", "models/b/1.bin": b"c"}.items():
        place = tmp_path / "warm" / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(content)
        os.utime(place, (1000, 1000))
    (tmp_path / "warm/models/a/1.bin").chmod(0o640)
    return tmp_path / "warm"


def on(path: Path) -> HostDirectory:
    return HostDirectory("gpu-01", str(path), LocalHost)


def read(directory: Path) -> dict[str, bytes]:
    return {str(each.relative_to(directory)): each.read_bytes() for each in directory.rglob("*") if each.is_file()}


def test_a_listing_has_each_directory_with_its_size_and_use(mount):
    (mount / "models/.hidden").mkdir()
    (mount / "models/link").symlink_to(mount / "models/a")
    with (mount / "models/b/1.bin").open("rb"):
        listing = on(mount).listing("models")

    found = {item.path: (item.bytes, item.files, item.in_use) for item in listing.items}
    assert found == {"models/a": (1001, 2, False), "models/b": (1, 1, True)}
    assert 0 < listing.used_bytes <= listing.total_bytes


def test_an_asterisk_stands_for_any_directory(mount):
    assert [item.path for item in on(mount).listing("models/*").items] == ["models/a/deep"]
    assert on(mount).listing("nothing/*").items == ()


def test_a_directory_moves_to_another_tier_with_its_modes_and_times(mount, tmp_path):
    before = read(mount / "models/a")
    on(mount / "models/a").relocate(str(tmp_path / "cold/models/a"), METER)

    moved = tmp_path / "cold/models/a"
    assert (read(moved), (mount / "models/a").exists()) == (before, False)
    found = (moved / "1.bin").stat()
    assert (found.st_mode & 0o777, found.st_mtime) == (0o640, 1000)


def test_an_interrupted_move_continues(mount, tmp_path):
    copy = tmp_path / "cold/models/a"
    copy.mkdir(parents=True)
    (copy / "1.bin").write_bytes(b"a" * 1000)
    (copy / ".rackwright-2.bin").write_bytes(b"a part")

    on(mount / "models/a").relocate(str(copy), METER)

    assert read(copy).keys() >= {"1.bin", "deep/2.bin"}
    assert not (mount / "models/a").exists()


def test_another_content_at_the_target_stays_and_nothing_is_deleted(mount, tmp_path):
    before, copy = read(mount), tmp_path / "cold/models/a"
    copy.mkdir(parents=True)
    (copy / "1.bin").write_bytes(b"mine")

    with pytest.raises(StepFailed, match=r"1.bin exists with another content at the target"):
        on(mount / "models/a").relocate(str(copy), METER)

    assert (read(mount), (copy / "1.bin").read_bytes()) == (before, b"mine")


def test_a_directory_in_use_does_not_move(mount, tmp_path):
    before = read(mount)
    with (mount / "models/a/1.bin").open("rb"), pytest.raises(StepFailed, match="a process uses"):
        on(mount / "models/a").relocate(str(tmp_path / "cold/models/a"), METER)

    assert read(mount) == before


def test_a_target_behind_a_link_is_refused(mount, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "cold").symlink_to(tmp_path / "elsewhere")

    with pytest.raises(StepFailed, match="is behind a link"):
        on(mount / "models/a").relocate(str(tmp_path / "cold/models/a"), METER)

    assert (read(mount)["models/b/1.bin"], [*(tmp_path / "elsewhere").iterdir()]) == (b"c", [])


def test_a_tier_that_is_not_mounted_gets_nothing(mount, tmp_path):
    before = read(mount)
    with pytest.raises(StepFailed, match="is not mounted"):
        on(mount / "models/a").relocate(str(tmp_path / "cold/models/a"), METER, mount=str(tmp_path / "cold"))

    assert (read(mount), (tmp_path / "cold").exists()) == (before, False)
