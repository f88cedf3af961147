"""The sources of the guests' images."""

import lzma
import struct
from pathlib import Path

import pytest

from rackwright.errors import SetupError
from rackwright.twin import image
from rackwright.twin.vm.image import uncompressed_kernel


def test_the_name_of_an_image_depends_on_its_sources(tmp_path, monkeypatch):
    """
    A change of any source makes a new image; a change of another backend's file does not.
    """
    (tmp_path / "vm").mkdir()
    (tmp_path / "packages.txt").write_text("sudo\n")
    (tmp_path / "vm" / "packages.txt").write_text("udev\n")
    monkeypatch.setattr(image, "_GUEST", tmp_path)
    before = [image.image_path("debian-12", sort) for sort in ("vm", "container")]
    assert [image.image_path("debian-12", sort) for sort in ("vm", "container")] == before

    (tmp_path / "vm" / "packages.txt").write_text("udev\nmdadm\n")
    after = [image.image_path("debian-12", sort) for sort in ("vm", "container")]
    assert (after[0] != before[0], after[1] != before[1]) == (True, False)

    (tmp_path / "packages.txt").write_text("sudo\nchrony\n")
    assert image.image_path("debian-12", "container") != before[1]


def bzimage(payload):
    """Return a kernel file in the layout of the boot protocol, with *payload* as its compressed part."""
    setup = bytearray(1024)
    setup[0x1F1] = 1
    struct.pack_into("<II", setup, 0x248, 16, len(payload))
    return bytes(setup) + b"\0" * 16 + payload + b"rest"


def test_the_kernel_is_unpacked():
    """
    The size after the compressed stream is not part of it.
    """
    assert uncompressed_kernel(bzimage(lzma.compress(b"\x7fELF kernel") + b"\x0b\0\0\0")) == b"\x7fELF kernel"


def test_a_kernel_with_another_compression_is_an_error():
    """
    Later Debian releases compress with zstd.
    """
    with pytest.raises(SetupError, match="xz"):
        uncompressed_kernel(bzimage(b"\x28\xb5\x2f\xfd----"))


def test_a_missing_program_is_named_with_its_package(monkeypatch):
    """
    The message has the command that installs it.
    """
    monkeypatch.setattr("shutil.which", lambda program, path: None)

    with pytest.raises(SetupError, match="apt-get install mmdebstrap qemu-utils systemd-container"):
        image.require("mmdebstrap", "qemu-img", "systemd-nspawn")


def test_no_udev_rule_of_storage_is_masked():
    """
    Udev rules assemble arrays and name drives; a twin without these rules would differ from a real host.
    """
    masked = (Path(image.__file__).parent / "guest/masks.txt").read_text()

    for rule in ("60-persistent-storage.rules", "63-md-raid-arrays", "64-md-raid-assembly", "mdmonitor", "55-dm"):
        assert rule not in masked
