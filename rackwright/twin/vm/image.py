"""The disk, kernel and initrd that every virtual machine boots from."""

import lzma
import os
import shlex
import struct
from dataclasses import dataclass
from pathlib import Path

from rackwright.errors import SetupError
from rackwright.progress import Progress
from rackwright.twin import image as shared
from rackwright.twin.image import Workshop, require


@dataclass(frozen=True, slots=True)
class Image:
    """A directory with `root.img`, `vmlinux`, `initrd`, and `manifest`: the versions of the packages inside.

    `vmlinuz` is the same kernel, which has to unpack itself: for machines with a TPM.
    """

    directory: Path

    @property
    def root(self) -> Path:
        return self.directory / "root.img"


def image(os_name: str) -> Image:
    """Return where the image of *os_name* is, or will be."""
    return Image(shared.place(os_name, "vm"))


def prepare(os_name: str, progress: Progress) -> Image:
    """Return the image of *os_name*, built if this computer has none."""
    return Image(shared.prepare(os_name, "vm", _build, progress))


def _build(workshop: Workshop, target: Path) -> None:
    is_root = os.getuid() == 0
    require("mmdebstrap", "mke2fs", *([] if is_root else ["newuidmap"]))
    tar = workshop.directory / "root.tar"
    workshop.bootstrap(tar, "vm")

    workshop.run(["chmod", "-R", "a+rX", str(workshop.directory)])  # the root of the user namespace reads it
    unpacked = workshop.directory / "unpacked"
    unpacked.mkdir()
    unpacked.chmod(0o777)  # and unpacks here
    helper = [] if is_root else ["mmdebstrap", "--unshare-helper"]
    assemble = shlex.join([*helper, "sh", str(workshop.guest / "vm" / "assemble.sh"), str(tar), str(unpacked)])
    workshop.run(f"{assemble} | {shlex.join(['tar', '-x', '-S', '--no-same-owner', '-C', str(target)])}")
    (target / "vmlinux").write_bytes(uncompressed_kernel((target / "vmlinuz").read_bytes()))


def uncompressed_kernel(bzimage: bytes) -> bytes:
    """Return the ELF kernel inside *bzimage*: QEMU starts it directly, and the guest need not unpack it.

    Raises:
        SetupError: The kernel is not compressed by xz, as Debian 12's is.
    """
    setup_sectors = bzimage[0x1F1] or 4
    offset, length = struct.unpack_from("<II", bzimage, 0x248)  # payload_offset, payload_length of the boot protocol
    payload = bzimage[(setup_sectors + 1) * 512 + offset :][:length]
    try:
        return lzma.LZMADecompressor().decompress(payload)  # stops at the end of the stream; four bytes of size follow
    except lzma.LZMAError as error:
        raise SetupError(
            "twin image", f"a kernel that xz cannot unpack ({error})", "Debian 12's is an xz stream", ""
        ) from error
