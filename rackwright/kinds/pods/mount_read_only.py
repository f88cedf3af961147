"""Show a directory of the host to pods, to be read only. Runs on hosts: when they start, before kubelet, and in `up`.

    python3 mount_read_only.py DIRECTORY MOUNT [whole]

No link on the path of DIRECTORY is followed: an account that owns a directory above can put one there at any time, and
mount(8) follows it. The directory that was opened is mounted, so that MOUNT never shows another one, and it is
read-only from the beginning. Mounts below it are not shown; with `whole` they are an error. Exit status: 0 it is
mounted, 1 it is not, and nothing is mounted there.
"""

from __future__ import annotations

import ctypes
import os
import stat
import struct
import sys

# Source: linux/mount.h, linux/fcntl.h and asm-generic/unistd.h; the numbers are those of all architectures.
OPEN_TREE, MOVE_MOUNT, MOUNT_SETATTR = 428, 429, 442
OPEN_TREE_CLONE, AT_EMPTY_PATH, MOVE_MOUNT_F_EMPTY_PATH, AT_FDCWD = 1, 0x1000, 4, -100
READ_ONLY, NO_SUID, NO_DEVICES = 1, 2, 4


def open_without_links(path: str) -> int:
    """Return a descriptor of the directory *path*.

    Raises:
        OSError: A part of the path does not exist, or is a link or no directory.
    """
    place = os.open("/", os.O_PATH)
    for part in path.strip("/").split("/"):
        parent = place
        place = os.open(part, os.O_PATH | os.O_NOFOLLOW, dir_fd=parent)
        os.close(parent)
        if stat.S_ISLNK(os.fstat(place).st_mode):
            raise OSError(f"{path} leads through the link {part}: another account may have made it")
    if not stat.S_ISDIR(os.fstat(place).st_mode):
        raise OSError(f"{path} is no directory: name the one with it")
    return place


def mounts_below(path: str) -> list[str]:
    """Return the mount points below the directory *path*, which leads through no link."""
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
        points = [line.split()[4] for line in file]
    return [each for each in points if each.startswith(path.rstrip("/") + "/")]


def mount(place: int, target: str) -> None:
    """Mount the directory of the descriptor *place* at *target*.

    Raises:
        OSError: The kernel refuses it, and nothing was mounted.
    """
    tree = _call(OPEN_TREE, place, b"", OPEN_TREE_CLONE | AT_EMPTY_PATH | os.O_CLOEXEC)
    options = struct.pack("QQQQ", READ_ONLY | NO_SUID | NO_DEVICES, 0, 0, 0)
    _call(MOUNT_SETATTR, tree, b"", AT_EMPTY_PATH, options, len(options))
    os.makedirs(target, exist_ok=True)
    _call(MOVE_MOUNT, tree, b"", AT_FDCWD, target.encode(), MOVE_MOUNT_F_EMPTY_PATH)


def _call(number: int, *arguments: object) -> int:
    values = [ctypes.c_long(each) if isinstance(each, int) else ctypes.c_char_p(each) for each in arguments]  # type: ignore[arg-type]
    libc = ctypes.CDLL(None, use_errno=True)
    found = int(libc.syscall(ctypes.c_long(number), *values))
    if found < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return found


def main(path: str, target: str, whole: str = "") -> None:
    """Mount *path* at *target*."""
    try:
        place = open_without_links(path)
        if whole and (below := mounts_below(path)):
            raise OSError(f"{below[0]} is a mount below it: name that directory")
        mount(place, target)
    except OSError as error:
        sys.exit(f"{path} is not shown to pods: {error}")


if __name__ == "__main__":
    main(*sys.argv[1:])
