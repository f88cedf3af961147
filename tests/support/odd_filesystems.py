"""Filesystems on loop devices that wait or may lose data, and what the probe reads of them."""

import contextlib
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from rackwright.facts.probe import storage_behaviour
from rackwright.facts.probe.block import mounts

TOOLS = ("losetup", "mkfs.ext4", "mkfs.xfs", "fsfreeze", "tune2fs", "blockdev")
Make = Callable[..., Path]
ODD: dict[str, tuple[dict[str, Any], list[str]]] = {
    "no journal": ({"options": ("-O", "^has_journal")}, ["no journal"]),
    "no barriers": ({"mount": "nobarrier"}, ["nobarrier"]),
    "no barriers, by its superblock": ({"tune": "nobarrier"}, ["nobarrier"]),
    "no order": ({"mount": "data=writeback"}, ["data=writeback"]),
    "no order, by its superblock": ({"tune": "journal_data_writeback"}, ["data=writeback"]),
    "frozen": ({"script": "fsfreeze --freeze $T"}, ["frozen"]),
    "another frozen one": ({"script": "fsfreeze --freeze $T", "mount": "nobarrier"}, ["nobarrier", "frozen"]),
}
"""How each filesystem is made, and what is read of it."""
USUAL: dict[str, dict[str, Any]] = {
    "ext4": {},
    "xfs": {"type": "xfs"},
    "ext2, which has no journal by its nature": {"type": "ext2"},
    "other times and discards": {"mount": "noatime,lazytime,discard,nodev,nosuid"},
    "data in the journal": {"mount": "data=journal"},
    "a mount that only reads": {"mount": "ro"},
    "a device that only reads below a mount that only reads": {"mount": "ro", "script": "blockdev --setro $L"},
    "frozen for a snapshot, and thawed": {"script": "fsfreeze --freeze $T; fsfreeze --unfreeze $T"},
    "xfs that was frozen and thawed": {
        "type": "xfs",
        "script": "fsfreeze --freeze $T; fsfreeze --unfreeze $T",
    },
    "mounted without barriers, and with them again": {
        "mount": "nobarrier",
        "script": "mount -o remount,barrier $T",
    },
    "its device becomes larger": {"script": "truncate --size 24M $I; losetup --set-capacity $L"},
    "xfs that was grown": {
        "type": "xfs",
        "script": "truncate --size 400M $I; losetup --set-capacity $L; xfs_growfs $T",
    },
    "no room left": {"script": "head -c 64M /dev/zero > $T/all || test $(df --output=avail $T | tail -n 1) = 0"},
    "no blocks for root, and another label": {"script": "tune2fs -m 0 -L other -e remount-ro $L"},
    "checked after some mounts": {"script": "tune2fs -c 5 -i 30d $L"},
    "another directory of it mounted elsewhere": {"script": "mkdir $T/a $T/b; mount --bind $T/a $T/b; umount $T/b"},
    "trimmed": {"script": "rm -f $T/x; fstrim $T || true"},
    "no checksums of its own": {"options": ("-O", "^metadata_csum")},
    "short commits": {"mount": "commit=1"},
}
"""Filesystems, and what an operator does to them, by which nothing is found."""


class Machine:
    """The part of `BlockDevices` that these readers take, without a look at the content of devices."""

    def __init__(self, root: str, drives: tuple[str, ...] = (), arrays: tuple[str, ...] = ()) -> None:
        self.root, self.drives, self.arrays = root, drives, arrays
        self.mounts = mounts(root) if not root else []

    def sys(self, name: str) -> str:
        return f"{self.root}/sys/class/block/{name}"

    def path(self, name: str) -> str:
        return f"{self.root}/dev/{name}"

    def with_parts(self, name: str) -> list[str]:
        return [name]


def lacks_tools() -> str:
    """Return what this computer lacks for loop devices; empty if nothing."""
    if os.geteuid() != 0:
        return "root"
    return ", ".join(tool for tool in TOOLS if not shutil.which(tool))


def run(*argv: object) -> str:
    return subprocess.run([*map(str, argv)], check=True, capture_output=True, text=True).stdout.strip()


@contextlib.contextmanager
def mounted(directory: Path) -> Iterator[Make]:
    """Give a function that mounts a new filesystem on a loop device and returns where; all are gone afterwards."""
    made: list[tuple[Path, str]] = []

    def make(type: str, options: tuple[str, ...] = (), tune: str = "", mount: str = "rw", script: str = "") -> Path:
        """Return the mount of a new filesystem after *script*, whose T is the mount, L the device and I its image."""
        image, target = directory / f"image{len(made)}", directory / f"mount{len(made)}"
        with image.open("wb") as file:
            file.truncate((320 if type == "xfs" else 16) << 20)
        run(f"mkfs.{type}", "-q", *options, image)
        if tune:
            run("tune2fs", "-o", tune, image)
        target.mkdir()
        loop = run("losetup", "--find", "--show", image)
        made.append((target, loop))
        run("mount", "-o", mount, loop, target)
        if script:
            run("env", f"T={target}", f"L={loop}", f"I={image}", "sh", "-ec", script)
        return target

    try:
        yield make
    finally:
        for target, loop in made:
            with contextlib.suppress(subprocess.CalledProcessError):
                run("fsfreeze", "--unfreeze", target)
            # a process that has waited for the filesystem may still be about to end
            if target.is_mount():
                run("umount", "--lazy", target)
            run("blockdev", "--setrw", loop)  # a flag that the next user of this device would find
            run("losetup", "--detach", loop)


def make_usual(make: Make) -> dict[str, Path]:
    """Return the mount of each filesystem of USUAL by its name."""
    return {name: make(**{"type": "ext4", **arguments}) for name, arguments in USUAL.items()}


def states(*targets: Path) -> dict[str, Any]:
    """Return what is read of these mounts alone, so that filesystems of this computer do not matter."""
    machine = Machine("")
    machine.mounts = [row for row in machine.mounts if row["target"] in map(str, targets)]
    assert len(machine.mounts) == len(targets)
    found: dict[str, Any] = storage_behaviour.filesystem_states(machine)  # type: ignore[arg-type]
    return found
