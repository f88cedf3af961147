"""What the guests' images are made from."""

import lzma
import struct
from pathlib import Path

import pytest

from rackwright.errors import SetupError
from rackwright.twin import image
from rackwright.twin.vm.image import uncompressed_kernel


def test_the_name_of_an_image_follows_what_is_in_it(tmp_path, monkeypatch):
    """
    Any file that is in it, changed, makes another image; a file for another sort does not.
    """
    (tmp_path / "vm").mkdir()
    (tmp_path / "packages.txt").write_text("sudo\n")
    (tmp_path / "vm" / "packages.txt").write_text("udev\n")
    monkeypatch.setattr(image, "_GUEST", tmp_path)
    before = [image.image_path("debian-12", sort) for sort in ("vm", "container")]
    assert [image.image_path("debian-12", sort) for sort in ("vm", "container")] == before

    (tmp_path / "vm" / "packages.txt").write_text("udev\nmdadm\n")
    of_one_sort = [image.image_path("debian-12", sort) for sort in ("vm", "container")]
    assert (of_one_sort[0] != before[0], of_one_sort[1] != before[1]) == (True, False)

    (tmp_path / "packages.txt").write_text("sudo\nchrony\n")
    assert image.image_path("debian-12", "container") != before[1]


def bzimage(payload):
    """Return a kernel file as the boot protocol lays it out, with *payload* as its compressed part."""
    setup = bytearray(1024)
    setup[0x1F1] = 1
    struct.pack_into("<II", setup, 0x248, 16, len(payload))
    return bytes(setup) + b"\0" * 16 + payload + b"rest"


def test_the_kernel_is_taken_out_of_its_wrapping():
    """
    After the compressed stream comes its size, which is no part of it.
    """
    assert uncompressed_kernel(bzimage(lzma.compress(b"\x7fELF kernel") + b"\x0b\0\0\0")) == b"\x7fELF kernel"


def test_a_kernel_compressed_otherwise_is_said_to_be():
    """
    A later Debian compresses with zstd.
    """
    with pytest.raises(SetupError, match="xz"):
        uncompressed_kernel(bzimage(b"\x28\xb5\x2f\xfd----"))


def test_a_missing_program_is_named_with_its_package(monkeypatch):
    """
    The message is the command to type.
    """
    monkeypatch.setattr("shutil.which", lambda program, path: None)

    with pytest.raises(SetupError, match="apt-get install mmdebstrap qemu-utils systemd-container"):
        image.require("mmdebstrap", "qemu-img", "systemd-nspawn")


def test_no_mask_hides_a_rule_that_storage_needs():
    """
    Arrays are assembled and drives named by these; masked, the twin would boot faster and lie.
    """
    masked = (Path(image.__file__).parent / "guest/masks.txt").read_text()

    for rule in ("60-persistent-storage.rules", "63-md-raid-arrays", "64-md-raid-assembly", "mdmonitor", "55-dm"):
        assert rule not in masked
