"""How devices and mounted filesystems behave beside what is written on them: each list has only differences."""

from __future__ import annotations

import array
import ctypes
import errno
import fcntl
import os
import re
import select
import signal
import struct
import time
from typing import Any, Iterator

from rackwright.facts.probe.block import BlockDevices
from rackwright.facts.probe.observe import ReadError, attempt, listing, number, read, read_any, unwrap

MOST_MOUNTS = 256
OF_DEVICES = ("ext2", "ext3", "ext4", "xfs", "btrfs", "f2fs", "jfs", "reiserfs", "bcachefs")
"""Filesystems that a process can freeze, with FIFREEZE."""
JOURNALING = ("ext3", "ext4")
WITHOUT_ORDER = ("nobarrier", "barrier=0", "data=writeback", "fsync_mode=nobarrier", "noload", "norecovery")
"""Options by which a filesystem does not wait for its drive, or leaves its journal out. Source: ext4(5); f2fs.rst."""
FREEZE_SECONDS = 1.5
"""Time limit for one attempt to change nothing on a filesystem, which a frozen one keeps waiting."""
SLOWEST_SECONDS = 12
FROZEN = re.compile("percpu|sb_start|freeze")
"""Functions of the kernel in which a process waits until a filesystem goes on. Source: fs/super.c, percpu-rwsem.c."""
MOST_FROZEN = 8
"""Maximum number of attempts that may end at that limit."""
MOST_DESCRIPTORS = 4096
WATCHER = b"rw-frozen"
"""Name of the process that waits for a frozen filesystem. It cannot be ended before the filesystem goes on."""
SET_NAME = 15
"""PR_SET_NAME, include/uapi/linux/prctl.h."""
NVME_ADMIN = 0xC0484E41
"""NVME_IOCTL_ADMIN_CMD, include/uapi/linux/nvme_ioctl.h."""
IDENTIFY, CONTROLLER, IDENTIFY_BYTES, VOLATILE_CACHE = 0x06, 1, 4096, 525
"""Opcode, its argument, size of the answer, and place of VWC in it. Source: NVM Express Base Specification 2.0."""
FLUSH = (9, 11)
"""Features of a virtual drive: it has a cache to write, and the host may switch it off. Source: VIRTIO 1.2, 5.2.3."""
SLOWEST_REBUILD = 10_000
"""Speed in KiB/s below which a limit of the kernel keeps rebuilds of today's drives for weeks."""
RUNNING_DEVICE = ("running", "live", "")
"""States of a SCSI device and of a controller of NVMe that takes requests."""


def filesystem_states(machine: BlockDevices) -> dict[str, Any]:
    """Return for each mount of a block device how it differs from a filesystem that keeps what it was given."""
    mounts = [row for row in unwrap(machine.mounts) if row["device"] and row["type"] in OF_DEVICES]
    if len(mounts) > MOST_MOUNTS:
        raise ReadError(f"more than {MOST_MOUNTS} mounts of block devices")
    by_target = {row["target"]: row for row in mounts}  # the last one lies above the others
    by_device = {row["device"]: target for target, row in by_target.items() if "ro" not in row["options"]}
    of_devices = frozen_mounts(machine.root, [*by_device.values()])
    frozen = {target: of_devices.get(by_device.get(row["device"], "")) for target, row in by_target.items()}
    rows: dict[str, Any] = {}
    for target, row in by_target.items():
        found = attempt(lambda: [*mount_state(machine, row)])  # noqa: B023
        if isinstance(found, list):
            found += [text for text in (frozen[target],) if text]
        if found:
            rows[target] = found
    return rows


def mount_state(machine: BlockDevices, row: dict[str, Any]) -> Iterator[str]:
    device, options = row["device"], set(row["options"])
    folder = f"{machine.root}/proc/fs/ext4/{device}"
    if row["type"] in JOURNALING and os.path.exists(f"{folder}/options"):
        # those that the superblock asks for stand here alone
        options |= set(read(f"{folder}/options").split())
        if is_without_journal(machine.root, device):
            yield "no journal"
    for option in WITHOUT_ORDER:
        if option in options:
            yield option
    if "ro" not in options:
        yield from (f"{name} is read-only" for name in below(machine, device) if is_read_only(machine, name))


def is_without_journal(root: str, device: str) -> bool:
    """Return whether a mounted ext4 has no journal, by the task that writes it."""
    return read_any(f"{root}/sys/fs/ext4/{device}/journal_task") == "<none>"


def below(machine: BlockDevices, device: str) -> list[str]:
    """Return a device and all devices that carry it."""
    found: list[str] = []
    waiting = [device]
    while waiting:
        name = waiting.pop(0)
        if name not in found and len(found) < MOST_MOUNTS:
            found.append(name)
            folder = machine.sys(name)
            waiting += listing(f"{folder}/slaves")
            if os.path.exists(f"{folder}/partition"):
                waiting.append(os.path.basename(os.path.dirname(os.path.realpath(folder))))
    return found


def is_read_only(machine: BlockDevices, name: str) -> bool:
    return read_any(f"{machine.sys(name)}/ro") == "1"


def frozen_mounts(root: str, targets: list[str]) -> dict[str, str]:
    """Return which of the mounts are frozen, and of which this is unknown.

    A process asks each filesystem to remove an attribute that no file has, which changes nothing, and which a frozen
    filesystem makes wait. The process stays until the filesystem goes on: later probes find it and start no other one.
    """
    if os.geteuid() != 0:
        raise ReadError("only root can ask a filesystem whether it is frozen")
    waiting = waiting_for(root)
    found = dict.fromkeys(sorted(waiting.intersection(targets)), "frozen")
    left = [target for target in targets if target not in waiting]
    attempts = 0
    while left and attempts < MOST_FROZEN:
        attempts += 1
        done, reason = ask_all(root, left)
        left = left[done:]
        if left:
            found[left.pop(0)] = reason
    return {**found, **dict.fromkeys(left, "perhaps frozen, as many others are")}


def waiting_for(root: str) -> set[str]:
    """Return the mounts for which processes of earlier probes still wait."""
    found: set[str] = set()
    for pid in listing(f"{root}/proc"):
        if pid.isdecimal():
            try:
                with open(f"{root}/proc/{pid}/stat", "rb") as file:
                    if b"(" + WATCHER + b") D" in file.read(512):
                        found.update(
                            os.readlink(f"{root}/proc/{pid}/fd/{each}") for each in os.listdir(f"{root}/proc/{pid}/fd")
                        )
            except OSError:
                continue
    return found


def ask_all(root: str, targets: list[str]) -> tuple[int, str]:
    """Return how many of *targets* answered, one after another, and why the next one does not; empty if all did.

    A drive may take seconds until it turns. The kernel says of a waiting process what it waits for.
    """
    read_end, write_end = os.pipe()
    child = os.fork()
    if not child:
        try:
            ask_in_child(root, targets, write_end)
        finally:
            os._exit(0)
    os.close(write_end)
    done, reason = 0, ""
    try:
        begin = time.monotonic()
        while done < len(targets) and not reason:
            ready, _, _ = select.select([read_end], [], [], FREEZE_SECONDS)
            part = os.read(read_end, 1 << 12) if ready else b""
            if ready and not part:
                raise ReadError("the process that asks the filesystems has ended")
            done, begin = done + len(part), time.monotonic() if part else begin
            if not part and FROZEN.search(attempt_text(f"{root}/proc/{child}/wchan")):
                reason = "frozen"
            elif time.monotonic() - begin > SLOWEST_SECONDS:
                reason = f"no answer within {SLOWEST_SECONDS} s"
    finally:
        os.close(read_end)
        os.kill(child, signal.SIGKILL)  # without effect on one that waits for a filesystem
        os.waitpid(child, 0 if done == len(targets) else os.WNOHANG)
    return done, reason


def attempt_text(path: str) -> str:
    text = attempt(read, path)
    return text if isinstance(text, str) else ""


def ask_in_child(root: str, targets: list[str], write_end: int) -> None:
    os.setsid()
    # an open stream would make the caller wait for a process that cannot be killed
    os.closerange(3, write_end)
    os.closerange(write_end + 1, MOST_DESCRIPTORS)
    quiet = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(quiet, stream)
    ctypes.CDLL(None).prctl(SET_NAME, ctypes.c_char_p(WATCHER), 0, 0, 0)
    for target in targets:
        try:
            folder = os.open(root + target, os.O_RDONLY | os.O_DIRECTORY | os.O_NOATIME)
            try:
                os.removexattr(folder, "user.rackwright-has-never-set-this")
            finally:
                os.close(folder)
        except OSError:
            pass  # it has no such attribute, or no attributes at all: it answers
        os.write(write_end, b".")


def device_states(machine: BlockDevices) -> dict[str, Any]:
    """Return for each drive, array and mapping how it differs from one that takes and keeps what is written to it."""
    names = [part for drive in machine.drives for part in machine.with_parts(drive)]
    names += [part for each in machine.arrays for part in machine.with_parts(each)]
    names += [name for name in listing(f"{machine.root}/sys/class/block", "dm-*") if os.path.exists(machine.path(name))]
    rows = {}
    for name in dict.fromkeys(names):
        found = attempt(lambda: [*device_state(machine, name)])  # noqa: B023
        if found:
            rows[name] = found
    return rows


def device_state(machine: BlockDevices, name: str) -> Iterator[str]:
    folder = machine.sys(name)
    if is_read_only(machine, name) and not is_read_only_by_nature(folder):
        yield "read-only"
    if read_any(f"{folder}/dm/suspended") == "1":
        yield "suspended"
    state = read_any(f"{folder}/device/state")
    if state not in RUNNING_DEVICE:
        yield f"its device is {state}"
    if read_any(f"{folder}/make-it-fail") not in ("", "0"):
        yield "it fails on purpose"
    cache = read_any(f"{folder}/queue/write_cache")  # a partition has that of its drive
    if cache == "write through" and keeps_writes(machine, name, folder):
        yield "the kernel does not ask it to write its cache, and it has one"
    if os.path.isdir(f"{folder}/md"):
        yield from array_state(f"{folder}/md")


def is_read_only_by_nature(folder: str) -> bool:
    """Return whether a device is one that nothing can be written to, such as a disc."""
    return os.path.basename(folder).startswith(("sr", "scd")) or read_any(f"{folder}/device/type") == "5"


def keeps_writes(machine: BlockDevices, name: str, folder: str) -> bool:
    """Return whether a device has a cache that a power cut empties, by what the device says of itself.

    An array says that it has one, whatever its members have. Source: Linux, drivers/md/md.c.
    """
    if os.path.isdir(f"{folder}/md"):
        return True
    for scsi in listing(f"{folder}/device/scsi_disk"):
        if read_any(f"{folder}/device/scsi_disk/{scsi}/cache_type").startswith("write back"):
            return True
    features = read_any(f"{folder}/device/features")
    if name.startswith("vd") and len(features) > FLUSH[1]:
        return [features[bit] for bit in FLUSH] == ["1", "0"]
    if re.fullmatch(r"nvme\d+n\d+", name):
        return has_volatile_cache(machine.path(name))
    return False


def has_volatile_cache(path: str) -> bool:
    """Return whether a drive of NVMe says that it has a volatile cache."""
    answer = array.array("B", bytes(IDENTIFY_BYTES))
    place, size = answer.buffer_info()
    command = struct.pack(
        "=BBHIIIQQIIIIIIIIII", IDENTIFY, 0, 0, 0, 0, 0, 0, place, 0, size, CONTROLLER, 0, 0, 0, 0, 0, 0, 0
    )
    device = os.open(path, os.O_RDONLY)
    try:
        fcntl.ioctl(device, NVME_ADMIN, command)
    except OSError as error:
        if error.errno == errno.ENOTTY:
            return False
        raise
    finally:
        os.close(device)
    return bool(answer[VOLATILE_CACHE] & 1)


def array_state(folder: str) -> Iterator[str]:
    """Yield what keeps a running array from writing, or from mending itself."""
    if read_any(f"{folder}/array_state") == "readonly":
        yield "the array takes no writes"
    if read_any(f"{folder}/sync_action") == "frozen":
        yield "the array mends nothing (frozen)"
    low, high = (read_any(f"{folder}/{name}") for name in ("suspend_lo", "suspend_hi"))
    if low.isdecimal() and high.isdecimal() and int(high) > int(low):
        yield "a part of the array makes each access wait"
    speed = read_any(f"{folder}/sync_speed_max")
    if speed.endswith("(local)") and int(speed.split()[0]) < SLOWEST_REBUILD:
        yield f"at most {speed.split()[0]} KiB/s for a rebuild"


def rebuild_speed(root: str) -> int | None:
    """Return the kernel's limit for rebuilds of arrays in KiB/s; None for a kernel without arrays."""
    path = f"{root}/proc/sys/dev/raid/speed_limit_max"
    return number(path) if os.path.exists(path) else None
