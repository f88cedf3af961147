"""The disk, kernel and initrd from which each virtual machine boots."""

import lzma
import os
import shlex
import struct
from dataclasses import dataclass
from pathlib import Path

from rackwright.errors import Diagnostic, SetupError
from rackwright.progress import Progress
from rackwright.twin import image as shared
from rackwright.twin.image import ImageBuilder, require


@dataclass(frozen=True, slots=True)
class MachineImage:
    """A directory with `root.img`, `vmlinux`, `initrd`, and `manifest`, the versions of its packages.

    `vmlinuz` is the same kernel, compressed, for machines with a TPM.
    """

    directory: Path

    @property
    def root(self) -> Path:
        return self.directory / "root.img"


def image(os_name: str) -> MachineImage:
    """Return the image of *os_name*, which may not exist yet."""
    return MachineImage(shared.image_path(os_name, "vm"))


def prepare(os_name: str, progress: Progress) -> MachineImage:
    """Return the image of *os_name*, and build it if this computer has none."""
    return MachineImage(shared.prepare(os_name, "vm", _build, progress))


def _build(builder: ImageBuilder, target: Path) -> None:
    is_root = os.getuid() == 0
    require("mmdebstrap", "mke2fs", *([] if is_root else ["newuidmap"]))
    tar = builder.directory / "root.tar"
    builder.bootstrap(tar, "vm")

    unpacked = builder.directory / "unpacked"
    unpacked.mkdir()
    if not is_root:
        builder.run(["chmod", "-R", "a+rX", str(builder.directory)])  # the root of the user namespace reads it
        unpacked.chmod(0o777)  # and unpacks here
    helper = [] if is_root else ["mmdebstrap", "--unshare-helper"]
    assemble = shlex.join([*helper, "sh", str(builder.guest / "vm" / "assemble.sh"), str(tar), str(unpacked)])
    builder.run(f"{assemble} | {shlex.join(['tar', '-x', '-S', '--no-same-owner', '-C', str(target)])}")
    (target / "vmlinux").write_bytes(uncompressed_kernel((target / "vmlinuz").read_bytes()))


def uncompressed_kernel(bzimage: bytes) -> bytes:
    """Return the ELF kernel inside *bzimage*. QEMU starts it directly, so the guest does not unpack it.

    Raises:
        SetupError: The kernel is not compressed with xz, as that of Debian 12 is.
    """
    setup_sectors = bzimage[0x1F1] or 4
    offset, length = struct.unpack_from("<II", bzimage, 0x248)  # payload_offset, payload_length of the boot protocol
    payload = bzimage[(setup_sectors + 1) * 512 + offset :][:length]
    try:
        return lzma.LZMADecompressor().decompress(payload)  # stops at the end of the stream; four bytes of size follow
    except lzma.LZMAError as error:
        raise SetupError(
            Diagnostic(
                "twin image", f"xz cannot unpack the kernel ({error})", "an xz stream, as in the kernel of Debian 12"
            )
        ) from error
