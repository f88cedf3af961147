"""Installed kernels and what was added to them, on a fabricated machine."""

import gzip
import lzma
import struct
from pathlib import Path
from typing import Any

import pytest

from rackwright.facts.facts import Facts
from rackwright.facts.probe import kernel
from rackwright.facts.probe.elf import modinfo
from rackwright.facts.probe.observe import ReadError
from rackwright.facts.view import UnknownFact
from tests.support.fabricated_machine import FabricatedMachine

RUNNING = "6.1.0-30-amd64"


def module(**words: str) -> bytes:
    """Return a module with nothing in it but what it says of itself; fields and their order are those of elf(5)."""
    info = b"".join(f"{key}={value}\0".encode() for key, value in words.items())
    names = b"\0.modinfo\0.shstrtab\0"
    at = 64
    sections = [(0, 0, 0), (1, at, len(info)), (10, at + len(info), len(names))]
    table = b"".join(
        struct.pack("<IIQQQQIIQQ", name, 1, 0, 0, offset, size, 0, 0, 1, 0) for name, offset, size in sections
    )
    start = at + len(info) + len(names)
    header = struct.pack("<6s10xHHIQQQIHHHHHH", b"\x7fELF\2\1", 1, 62, 1, 0, 0, start, 0, 64, 0, 0, 64, 3, 2)
    return header + info + names + table


@pytest.fixture
def machine(tmp_path: Path) -> FabricatedMachine:
    """It runs the older of two kernels that can be started; of a third there is no image."""
    machine = FabricatedMachine(tmp_path)
    for release in (RUNNING, "6.1.0-100-amd64"):
        machine.write(f"boot/vmlinuz-{release}", "")
        machine.write(f"lib/modules/{release}/kernel/drivers/gpu/nouveau.ko", module(name="nouveau"))
    machine.write("lib/modules/6.1.0-200-amd64/modules.dep", "")
    machine.write(f"lib/modules/{RUNNING}/updates/dkms/nvidia-current.ko", module(name="nvidia", version="535.261.03"))
    return machine


def seen(machine: FabricatedMachine) -> Facts:
    raw: dict[str, Any] = {"kernels": kernel.kernels(machine.top), "sysctls": kernel.sysctls(machine.top)}
    return Facts({**raw, "covers": {"sysctls_left_out": []}})


@pytest.mark.parametrize("pack", [bytes, lzma.compress])
def test_with_secure_boot_each_added_module_is_signed_or_not(machine, pack):
    variable = machine.root / kernel.SECURE_BOOT.lstrip("/")
    variable.parent.mkdir(parents=True)
    variable.write_bytes(b"\6\0\0\0\1")
    folder = machine.root / f"lib/modules/{RUNNING}/updates/dkms"
    suffix = ".ko" if pack is bytes else ".ko.xz"
    (folder / f"signed{suffix}").write_bytes(pack(module(name="signed") + b"signature" + kernel.SIGNED))

    assert kernel.secure_boot(machine.top) is True
    found = {each.name: each.signed for each in seen(machine).kernels[RUNNING].modules}
    assert found == {"nvidia": False, "signed": True}


def test_without_efi_there_is_no_secure_boot_and_no_file_is_searched_for_a_signature(machine):
    assert kernel.secure_boot(machine.top) is None
    assert [each.signed for each in seen(machine).kernels[RUNNING].modules] == [None]


@pytest.mark.parametrize(("suffix", "pack"), [("", bytes), (".xz", lzma.compress), (".gz", gzip.compress)])
def test_a_module_says_what_it_is_however_it_is_packed(tmp_path, suffix, pack):
    path = tmp_path / f"nvidia.ko{suffix}"
    path.write_bytes(pack(module(license="Dual MIT/GPL", version="535.261.03", name="nvidia")))

    assert modinfo(str(path)) == {"license": "Dual MIT/GPL", "version": "535.261.03", "name": "nvidia"}


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("a.ko.zst", b"", "a compression that Python cannot read"),
        ("a.ko", b"\x7fELF\1\1" + bytes(60), "64-bit"),
        ("a.ko", b"", "64-bit"),
    ],
)
def test_what_cannot_be_read_says_why(tmp_path, name, content, reason):
    path = tmp_path / name
    path.write_bytes(content)

    with pytest.raises(ReadError, match=reason):
        modinfo(str(path))


def test_a_module_without_the_section_says_so(tmp_path):
    path = tmp_path / "a.ko"
    path.write_bytes(module(name="a").replace(b".modinfo", b".modinfx"))

    with pytest.raises(ReadError, match=r"no section \.modinfo"):
        modinfo(str(path))


def test_what_was_added_to_a_kernel_is_reported_under_the_name_that_it_has_when_loaded(machine):
    """
    And not what came with the kernel: there are thousands.
    """
    machine.write(f"lib/modules/{RUNNING}/extra/zfs-old.ko", module(license="CDDL"))
    (added,) = [found for found in kernel.kernels(machine.top)[RUNNING]["modules"] if "updates" in found["path"]]
    (other,) = [found for found in kernel.kernels(machine.top)[RUNNING]["modules"] if "extra" in found["path"]]

    path = f"/lib/modules/{RUNNING}/updates/dkms/nvidia-current.ko"
    assert added == {"path": path, "name": "nvidia", "version": "535.261.03", "signed": None}
    assert (other["name"], other["version"]) == ("zfs_old", None)


def test_the_next_start_takes_the_newest_that_has_an_image_or_the_one_that_runs(machine):
    """
    100 is newer than 30, and what has no image is started by nobody.
    """
    kernels = seen(machine).next_kernels()

    assert set(kernels) == {RUNNING, "6.1.0-100-amd64"}
    assert [found.name for found in kernels[RUNNING].modules] == ["nvidia"]
    machine.write("proc/sys/kernel/osrelease", "of a container's host\n")
    assert set(seen(machine).next_kernels()) == {"6.1.0-100-amd64"}


def test_one_module_that_cannot_be_read_is_unknown_by_itself(machine):
    machine.write(f"lib/modules/{RUNNING}/updates/odd.ko", "no module")
    found = {added.path.rpartition("/")[2]: added for added in seen(machine).next_kernels()[RUNNING].modules}

    assert found["nvidia-current.ko"].version == "535.261.03"
    with pytest.raises(UnknownFact, match="64-bit"):
        _ = found["odd.ko"].name


def test_the_versions_of_loaded_modules_are_those_that_the_kernel_shows(machine):
    machine.write("sys/module/nvidia/version", "535.261.03\n")
    machine.write("sys/module/ext4/refcnt", "1\n")

    facts = Facts({"module_versions": kernel.module_versions(machine.top)})

    assert facts.module_version("nvidia") == "535.261.03"
    assert facts.module_version("ext4") is None
