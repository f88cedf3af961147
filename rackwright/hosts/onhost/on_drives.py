"""Write to drives on the host, after opening them exclusively and checking them.

Each step that writes to drives has a process of its own.

Standard library only, for Python 3.8 and later. The process opens each drive exclusively. The kernel refuses that while
the drive or one of its partitions is mounted, held by an array, or open exclusively elsewhere; later it refuses
other processes. The process then reads serial and content again, and writes nothing if either differs from the plan.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

from rackwright.facts.content import UnknownContent, covers, describe
from rackwright.facts.probe import block
from rackwright.facts.probe.observe import ENVIRONMENT, ReadError, attempt, read, unwrap

REFUSED = 97
"""Exit status: nothing was written, and the last line of the output says why."""
FAILED = 1
BLKRRPART, BLKFLSBUF = 0x125F, 0x1261
"""Source: include/uapi/linux/fs.h."""
TRIES, TRY_SECONDS = 20, 0.5
"""Patience with udev, which looks at every drive that was written, and has its partitions open while it does."""


class DriveStepFailed(Exception):
    """A step failed, and may be partly done."""


class DriveStepRefused(DriveStepFailed):
    """A step was refused before anything was written."""


def main(job: dict[str, Any]) -> None:
    """Do the step of *job*, or become its command; ends the process."""
    os.environ.update(ENVIRONMENT)
    try:
        do(job["argv"], job["expects"], job.get("root", ""))
    except DriveStepRefused as reason:
        print(f"{reason}; nothing was written", file=sys.stderr)
        sys.exit(REFUSED)
    except (DriveStepFailed, ReadError, OSError) as reason:
        print(reason, file=sys.stderr)
        sys.exit(FAILED)


def do(argv: list[str], expects: dict[str, str], root: str) -> None:
    """Do *argv*, a step of ours or a command with the paths of drives in it, once the drives are as *expects* has it.

    Raises:
        DriveStepRefused: they are not, or one of them is in use; nothing was written.
        DriveStepFailed: the step began and did not succeed.
    """
    if argv[0] == "wipe":
        wipe(argv[1], expects[argv[1]], root)
    elif argv[0] == "erase-member":
        erase_member(argv[1], argv[2], root)
    else:
        run(argv, expects, root)


# --- holding a drive ------------------------------------------------------------------------------------------------


def find_drive(machine: block.BlockDevices, serial: str) -> str:
    """Return the current kernel name of the drive with exactly this serial."""
    names = [name for name in machine.drives if attempt(block.serial, machine, name) == serial]
    if len(names) != 1:
        raise DriveStepRefused(f"{'more than one' if names else 'no'} drive {serial} here")
    return names[0]


@contextlib.contextmanager
def open_exclusive(path: str, flags: int) -> Iterator[int]:
    """Open a device exclusively: the kernel refuses that while it or a partition is mounted or held."""
    device = os.open(path, flags | os.O_EXCL | os.O_CLOEXEC)
    try:
        yield device
    finally:
        os.close(device)


def check_it_is(serial: str, device: int, machine: block.BlockDevices, name: str) -> None:
    """Raise DriveStepRefused unless what was opened is what the kernel calls *name*, and that still has this serial."""
    major, minor = map(int, read(f"{machine.sys(name)}/dev").split(":"))
    if os.fstat(device).st_rdev != os.makedev(major, minor) or attempt(block.serial, machine, name) != serial:
        raise DriveStepRefused(f"{name} is not drive {serial} any more")


def check_content(serial: str, expected: str, machine: block.BlockDevices, name: str) -> None:
    """Raise DriveStepRefused unless *expected* covers all content of a drive."""
    try:
        there = describe(block.drive(machine, name))
    except UnknownContent as reason:
        raise DriveStepRefused(f"what is on drive {serial} cannot be known ({reason})") from None
    if not covers(expected, there):
        planned = expected or "a blank drive"
        raise DriveStepRefused(f"drive {serial} holds {there} now, and the plan was made for {planned}")


@contextlib.contextmanager
def hold_checked_drives(
    expects: dict[str, str | None], root: str, flags: int
) -> Iterator[tuple[block.BlockDevices, dict[str, tuple[str, int]]]]:
    """Hold drives, and check the content of each while all are held.

    Yields the machine as it is then, and each drive's name and descriptor by serial.

    Args:
        expects: Content that may be on each drive, by serial; None for any content.
    """
    machine = block.BlockDevices(root)
    with contextlib.ExitStack() as holding:
        drives = {}
        for serial in expects:
            name = find_drive(machine, serial)
            device = holding.enter_context(hold_drive(serial, machine, name, flags))
            check_it_is(serial, device, machine, name)
            if flags & os.O_RDWR:
                flush(device)
            drives[serial] = name, device
        machine = block.BlockDevices(root)  # before the drives were held, their content could have changed
        for serial, (name, _) in drives.items():
            expected = expects[serial]
            if expected is not None:
                check_content(serial, expected, machine, name)
        yield machine, drives


@contextlib.contextmanager
def hold_drive(serial: str, machine: block.BlockDevices, name: str, flags: int) -> Iterator[int]:
    with contextlib.ExitStack() as holding:
        try:
            device = holding.enter_context(open_exclusive(machine.path(name), flags))
        except OSError as error:
            if error.errno != errno.EBUSY:
                raise
            users = attempt(block.users_of, machine, name)
            by = f" by {', '.join(users)}" if isinstance(users, list) and users else ""
            raise DriveStepRefused(f"drive {serial} is in use{by}") from None
        yield device


def flush(device: int) -> None:
    """Write and drop the page cache of a drive, so that no old data is written or read later."""
    fcntl.ioctl(device, BLKFLSBUF)


# --- what is done to it ---------------------------------------------------------------------------------------------


def wipe(serial: str, expected: str, root: str) -> None:
    """Clear both ends of a drive and of its partitions, and every other signature. Each write clears whole parts."""
    stop_arrays(serial, expected, root)
    with hold_checked_drives({serial: expected}, root, os.O_RDWR) as (machine, drives):
        name, device = drives[serial]
        for begin, end in block.erased_ranges(machine, name):
            clear(device, begin, end)
        flush(device)
        if machine.with_parts(name)[1:]:
            forget_partitions(device)
    check_nothing_left(serial, root)


def stop_arrays(serial: str, expected: str, root: str) -> None:
    """Stop the unused md arrays that hold a drive: udev assembles what it finds."""
    machine = block.BlockDevices(root)
    name = find_drive(machine, serial)
    holders = block.holders_of(machine, name)
    if holders:
        check_content(serial, expected, machine, name)
    for holder in holders:
        done = command("mdadm", "--quiet", "--stop", machine.path(holder))
        if done.returncode:
            raise DriveStepRefused(f"{holder}, which holds drive {serial}, does not stop: {done.stdout.strip()}")
    settle()


def clear(device: int, begin: int, end: int) -> None:
    """Write zeros over a range of a drive, and wait until they are on it."""
    while begin < end:
        begin += os.pwrite(device, bytes(end - begin), begin)
    os.fsync(device)


def forget_partitions(device: int) -> None:
    """Have the kernel read the partition table again, which is not there any more."""
    for last in (number == TRIES for number in range(1, TRIES + 1)):
        settle()
        try:
            fcntl.ioctl(device, BLKRRPART)
            return
        except OSError as error:
            if error.errno != errno.EBUSY or last:
                raise DriveStepFailed(f"the kernel keeps the partitions of before: {error.strerror}") from None
        time.sleep(TRY_SECONDS)


def check_nothing_left(serial: str, root: str) -> None:
    """Raise DriveStepFailed where a signature or a partition is left."""
    settle()
    machine = block.BlockDevices(root)
    try:
        name = find_drive(machine, serial)
    except DriveStepRefused as reason:  # the drive has been written to
        raise DriveStepFailed(str(reason)) from None
    left = [row["type"] for row in unwrap(machine.signatures[name])] + machine.with_parts(name)[1:]
    if left:
        raise DriveStepFailed(f"drive {serial} still has {', '.join(left)}")


def erase_member(serial: str, array_uuid: str, root: str) -> None:
    """Erase all signatures on a member of an array that is stopped, its md superblock last."""
    with hold_checked_drives({serial: None}, root, os.O_RDWR) as (machine, drives):
        name, device = drives[serial]
        rows = unwrap(machine.signatures[name])
        own = block.superblock(machine.path(name), rows)
        if not own or own["array_uuid"] != array_uuid:
            raise DriveStepRefused(f"drive {serial} is no member of {array_uuid} any more")
        for row in sorted(rows, key=lambda row: row["type"] == "linux_raid_member"):
            begin = row["offset"] // block.BLOCK * block.BLOCK
            clear(device, begin, min(begin + block.BLOCK, machine.size(name)))
        flush(device)
        if machine.with_parts(name)[1:]:
            forget_partitions(device)
    check_nothing_left(serial, root)


def run(argv: list[str], expects: dict[str, str], root: str) -> None:
    """Become a command while all drives are held and have just been checked.

    The kernel releases them when the command, which is mdadm, begins: mdadm opens each exclusively itself, or refuses.
    """
    program = shutil.which(argv[0], path=ENVIRONMENT["PATH"])
    if not program:
        raise DriveStepRefused(f"{argv[0]} is not installed")
    with hold_checked_drives(dict(expects), root, os.O_RDONLY) as (machine, drives):
        paths = {f"${{drive:{serial}}}": machine.path(name) for serial, (name, _) in drives.items()}
        os.execv(program, [paths.get(argument, argument) for argument in argv])


# --- other programs -------------------------------------------------------------------------------------------------


def command(*argv: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        argv,
        env=ENVIRONMENT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        check=False,
    )


def settle() -> None:
    """Wait until udev has seen what was done."""
    if shutil.which("udevadm", path=ENVIRONMENT["PATH"]):
        command("udevadm", "settle")
