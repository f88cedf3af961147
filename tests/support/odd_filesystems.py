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
    "frozen": ({"after": ("fsfreeze", "--freeze")}, ["frozen"]),
    "another frozen one": ({"after": ("fsfreeze", "--freeze"), "mount": "nobarrier"}, ["nobarrier", "frozen"]),
}
"""How each filesystem is made, and what is read of it."""


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

    def make(
        type: str, options: tuple[str, ...] = (), tune: str = "", mount: str = "rw", after: tuple[str, ...] = ()
    ) -> Path:
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
        if after:
            run(*after, target)
        return target

    try:
        yield make
    finally:
        for target, loop in made:
            with contextlib.suppress(subprocess.CalledProcessError):
                run("fsfreeze", "--unfreeze", target)
            # a process that has waited for the filesystem may still be about to end
            run("umount", "--lazy", target)
            run("losetup", "--detach", loop)


def states(*targets: Path) -> dict[str, Any]:
    """Return what is read of these mounts alone, so that filesystems of this computer do not matter."""
    machine = Machine("")
    machine.mounts = [row for row in machine.mounts if row["target"] in map(str, targets)]
    assert len(machine.mounts) == len(targets)
    found: dict[str, Any] = storage_behaviour.filesystem_states(machine)  # type: ignore[arg-type]
    return found
