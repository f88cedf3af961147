"""Runs on the host, in one process for each step that writes to drives: holds them, looks at them, and then writes.

Standard library only, for Python 3.8 and later. A drive is opened for this process alone, which the kernel refuses
while it or one of its partitions is mounted, held by an array, or open alike elsewhere, and keeps anybody from then on.
Serial and content are read once more while it is held, and nothing is written where either is not as planned.
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


class Failed(Exception):
    """Why something is not done; some of it may be."""


class Refused(Failed):
    """Why nothing was written."""


def main(job: dict[str, Any]) -> None:
    """Do the step of *job*, or become its command; ends the process."""
    os.environ.update(ENVIRONMENT)
    try:
        do(job["argv"], job["expects"], job.get("root", ""))
    except Refused as reason:
        print(f"{reason}; nothing was written", file=sys.stderr)
        sys.exit(REFUSED)
    except (Failed, ReadError, OSError) as reason:
        print(reason, file=sys.stderr)
        sys.exit(FAILED)


def do(argv: list[str], expects: dict[str, str], root: str) -> None:
    """Do *argv*, a step of ours or a command with the paths of drives in it, once the drives are as *expects* has it.

    Raises:
        Refused: they are not, or one of them is in use; nothing was written.
        Failed: it was begun, and could not be ended.
    """
    if argv[0] == "wipe":
        wipe(argv[1], expects[argv[1]], root)
    elif argv[0] == "erase-member":
        erase_member(argv[1], argv[2], root)
    else:
        run(argv, expects, root)


# --- holding a drive ------------------------------------------------------------------------------------------------


def found(machine: block.Machine, serial: str) -> str:
    """Return the kernel's name of today of the drive with exactly this serial."""
    names = [name for name in machine.drives if attempt(block.serial, machine, name) == serial]
    if len(names) != 1:
        raise Refused(f"{'more than one' if names else 'no'} drive {serial} here")
    return names[0]


@contextlib.contextmanager
def held(path: str, flags: int) -> Iterator[int]:
    """Open a device for us alone: the kernel refuses that while it or a partition is mounted or held."""
    device = os.open(path, flags | os.O_EXCL | os.O_CLOEXEC)
    try:
        yield device
    finally:
        os.close(device)


def check_it_is(serial: str, device: int, machine: block.Machine, name: str) -> None:
    """Raise Refused unless what was opened is what the kernel calls *name*, and that still has this serial."""
    major, minor = map(int, read(f"{machine.sys(name)}/dev").split(":"))
    if os.fstat(device).st_rdev != os.makedev(major, minor) or attempt(block.serial, machine, name) != serial:
        raise Refused(f"{name} is not drive {serial} any more")


def check_content(serial: str, expected: str, machine: block.Machine, name: str) -> None:
    """Raise Refused unless all that is on a drive is in what is *expected*."""
    try:
        there = describe(block.drive(machine, name))
    except UnknownContent as reason:
        raise Refused(f"what is on drive {serial} cannot be known ({reason})") from None
    if not covers(expected, there):
        planned = expected or "a blank drive"
        raise Refused(f"drive {serial} holds {there} now, and the plan was made for {planned}")


@contextlib.contextmanager
def checked(
    expects: dict[str, str | None], root: str, flags: int
) -> Iterator[tuple[block.Machine, dict[str, tuple[str, int]]]]:
    """Hold drives, and look at what is on each while all of them are held.

    Yields the machine as it is then, and each drive's name and descriptor by serial.

    Args:
        expects: Serial to what may be on it; None where that does not matter.
    """
    machine = block.Machine(root)
    with contextlib.ExitStack() as holding:
        drives = {}
        for serial in expects:
            name = found(machine, serial)
            device = holding.enter_context(held_or_refused(serial, machine, name, flags))
            check_it_is(serial, device, machine, name)
            if flags & os.O_RDWR:
                flush(device)
            drives[serial] = name, device
        machine = block.Machine(root)  # before they were held, something else could have been there
        for serial, (name, _) in drives.items():
            expected = expects[serial]
            if expected is not None:
                check_content(serial, expected, machine, name)
        yield machine, drives


@contextlib.contextmanager
def held_or_refused(serial: str, machine: block.Machine, name: str, flags: int) -> Iterator[int]:
    with contextlib.ExitStack() as holding:
        try:
            device = holding.enter_context(held(machine.path(name), flags))
        except OSError as error:
            if error.errno != errno.EBUSY:
                raise
            users = attempt(block.users_of, machine, name)
            by = f" by {', '.join(users)}" if isinstance(users, list) and users else ""
            raise Refused(f"drive {serial} is in use{by}") from None
        yield device


def flush(device: int) -> None:
    """Write what the page cache holds for a drive, and forget it: nothing of before may be written later, or read."""
    fcntl.ioctl(device, BLKFLSBUF)


# --- what is done to it ---------------------------------------------------------------------------------------------


def wipe(serial: str, expected: str, root: str) -> None:
    """Clear both ends of a drive and of its partitions, and every other signature. Each write clears whole parts."""
    stop_arrays(serial, expected, root)
    with checked({serial: expected}, root, os.O_RDWR) as (machine, drives):
        name, device = drives[serial]
        for begin, end in block.erased_ranges(machine, name):
            clear(device, begin, end)
        flush(device)
        if machine.with_parts(name)[1:]:
            forget_partitions(device)
    nothing_left(serial, root)


def stop_arrays(serial: str, expected: str, root: str) -> None:
    """Stop the unused md arrays that hold a drive: udev assembles what it finds."""
    machine = block.Machine(root)
    name = found(machine, serial)
    holders = block.holders_of(machine, name)
    if holders:
        check_content(serial, expected, machine, name)
    for holder in holders:
        done = command("mdadm", "--quiet", "--stop", machine.path(holder))
        if done.returncode:
            raise Refused(f"{holder}, which holds drive {serial}, does not stop: {done.stdout.strip()}")
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
                raise Failed(f"the kernel keeps the partitions of before: {error.strerror}") from None
        time.sleep(TRY_SECONDS)


def nothing_left(serial: str, root: str) -> None:
    """Raise Failed where a signature or a partition is left."""
    settle()
    machine = block.Machine(root)
    try:
        name = found(machine, serial)
    except Refused as reason:  # it was written to by now
        raise Failed(str(reason)) from None
    left = [row["type"] for row in unwrap(machine.signatures[name])] + machine.with_parts(name)[1:]
    if left:
        raise Failed(f"drive {serial} still has {', '.join(left)}")


def erase_member(serial: str, array_uuid: str, root: str) -> None:
    """Erase all signatures on a member of an array that is stopped, its md superblock last."""
    with checked({serial: None}, root, os.O_RDWR) as (machine, drives):
        name, device = drives[serial]
        rows = unwrap(machine.signatures[name])
        own = block.superblock(machine.path(name), rows)
        if not own or own["array_uuid"] != array_uuid:
            raise Refused(f"drive {serial} is no member of {array_uuid} any more")
        for row in sorted(rows, key=lambda row: row["type"] == "linux_raid_member"):
            begin = row["offset"] // block.BLOCK * block.BLOCK
            clear(device, begin, min(begin + block.BLOCK, machine.size(name)))
        flush(device)
        if machine.with_parts(name)[1:]:
            forget_partitions(device)
    nothing_left(serial, root)


def run(argv: list[str], expects: dict[str, str], root: str) -> None:
    """Become a command while all drives are held and have just been looked at.

    The kernel lets go of them as the command begins, which is mdadm: it holds each of them itself, or refuses.
    """
    program = shutil.which(argv[0], path=ENVIRONMENT["PATH"])
    if not program:
        raise Refused(f"{argv[0]} is not installed")
    with checked(dict(expects), root, os.O_RDONLY) as (machine, drives):
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
