"""The eraser, which erases whole drives and then reads every block of them back.

It finds each drive by its serial immediately before, and opens the drive exclusively. Reads and writes bypass the page
cache. A report, a file of root, has the result of each drive. After an interruption only the drive's content shows how
much was erased.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import mmap
import os
import platform
import struct
import subprocess
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timezone
from functools import partial
from pathlib import Path
from typing import Any

from rackwright.facts.probe import block, health
from rackwright.facts.probe.observe import ENVIRONMENT, ReadError, attempt, number, run_tool
from rackwright.hosts.onhost.on_drives import (
    DriveStepRefused,
    check_content,
    check_it_is,
    find_drive,
    flush,
    hold_drive,
    open_exclusive,
)

ROOT = ""
"""Folder of the machine's /sys, /dev and /proc."""
BLOCK_BYTES = 4096
CHUNK_BYTES = 4 << 20
DISCARD_BYTES = 1 << 30
"""Size of one discard, because a discard of a whole drive in one call cannot be interrupted."""
PROGRESS_SECONDS = 10
BLKDISCARD = 0x1277
"""Number of the ioctl. Source: include/uapi/linux/fs.h."""
FORMAT_NVM, NAMESPACE_MANAGEMENT = 1 << 1, 1 << 3
"""Bits of OACS. Source: NVM Express Base Specification, Identify Controller data structure."""
FORMATS_ALL, ERASES_ALL, CRYPTO_ERASE = 1 << 0, 1 << 1, 1 << 2
"""Bits of FNA. Source: the same structure."""
SES = {"format": 1, "crypto-erase": 2}
"""Secure Erase Settings of Format NVM: user data erase and cryptographic erase."""


class EraseFailed(Exception):
    """A drive is not erased, or not verified; the message says why."""


def main(job: dict[str, Any]) -> None:
    """Print the abilities of the drives of *job*; or erase them, and write a report."""
    machine = block.BlockDevices(ROOT)
    if job["do"] == "look":
        print(json.dumps({serial: attempt(drive_abilities, machine, serial) for serial in job["serials"]}))
        return
    report, total_progress = Path(job["report"]), TotalProgress()
    with contextlib.suppress(FileNotFoundError):
        report.unlink()
    with ThreadPoolExecutor(len(job["serials"])) as pool:
        erase_one = partial(
            report_drive, machine, contents=job["contents"], method=job["method"], total_progress=total_progress
        )
        results = list(pool.map(erase_one, job["serials"]))
    report.touch(mode=0o600)
    report.write_text(json.dumps({"id": job["id"], "drives": dict(zip(job["serials"], results))}))


def report_drive(
    machine: block.BlockDevices, serial: str, contents: dict[str, str], method: str, total_progress: TotalProgress
) -> dict[str, Any]:
    try:
        return erase_drive(machine, serial, contents[serial], method, total_progress)
    except DriveStepRefused as reason:
        return {"failed": f"{reason}; nothing was written"}
    except (EraseFailed, ReadError) as reason:
        return {"failed": str(reason)}
    except OSError as error:
        return {"failed": f"{error.filename}: {error.strerror}" if error.filename else str(error)}
    except Exception as error:  # any error: one odd drive must not lose the results of the others
        return {"failed": f"{type(error).__name__}: {error}"}


# --- one drive ------------------------------------------------------------------------------------------------------


def erase_drive(
    machine: block.BlockDevices, serial: str, content: str, method: str, total_progress: TotalProgress
) -> dict[str, Any]:
    """Erase the drive with this serial, read it back, and return the report about both.

    Args:
        content: Content that may be lost, in the words of a consent.

    Raises:
        DriveStepRefused: the drive is missing or has other content; nothing was written.
        EraseFailed: the drive could not be erased; says whether anything was written.
        OSError: the drive is in use, or cannot be read or written.
    """
    name = find_drive(machine, serial)
    with hold_drive(serial, machine, name, os.O_RDWR | os.O_DIRECT) as device:
        check_it_is(serial, device, machine, name)
        size = os.lseek(device, 0, os.SEEK_END)
        flush(device)
        check_content(serial, content, block.BlockDevices(ROOT), name)
        started_at, drive_progress = timestamp(), total_progress.begin(serial, method, size)
        method_report = METHODS[method](machine, name, device, size, method, drive_progress)
        os.fsync(device)
        if os.lseek(device, 0, os.SEEK_END) != size:
            raise EraseFailed("the size of the drive has changed; inspect it by hand")
        flush(device)
        erased_at, drive_progress.activity = timestamp(), "reading back"
        verification = read_back(device, size, drive_progress)
        return {
            **method_report,
            "started_at": started_at,
            "ended_at": erased_at,
            "size_bytes": size,
            "kernel": f"Linux {os.uname().release}",
            "verification": {**verification, "ended_at": timestamp()},
        }


def timestamp() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="seconds")


# --- methods --------------------------------------------------------------------------------------------------------


def overwrite(
    machine: block.BlockDevices, name: str, device: int, size: int, method: str, drive_progress: DriveProgress
) -> dict[str, str]:
    """Write zeros to every block once."""
    zeros, offset = memoryview(mmap.mmap(-1, CHUNK_BYTES)), 0
    while offset < size:
        try:
            count = os.pwrite(device, zeros[: size - offset], offset)
        except OSError as error:
            raise EraseFailed(f"the drive cannot be written at byte {offset}: {error.strerror}") from None
        offset += count
        drive_progress.add(count)
    return {"command": f"one pass of zeros over {size} bytes, O_DIRECT", "tool": f"Python {platform.python_version()}"}


def discard(
    machine: block.BlockDevices, name: str, device: int, size: int, method: str, drive_progress: DriveProgress
) -> dict[str, str]:
    """Discard all blocks of the drive, as blkdiscard(8) does."""
    if number(f"{machine.sys(name)}/queue/discard_max_bytes") == 0:
        raise EraseFailed("the drive does not support discards; nothing was written")
    for offset in range(0, size, DISCARD_BYTES):
        discard_range(device, offset, min(DISCARD_BYTES, size - offset))
    return {"command": f"ioctl BLKDISCARD over {size} bytes", "tool": f"Linux {os.uname().release}"}


def discard_range(device: int, offset: int, length: int) -> None:
    fcntl.ioctl(device, BLKDISCARD, struct.pack("QQ", offset, length))


def format_nvm(
    machine: block.BlockDevices, name: str, device: int, size: int, method: str, drive_progress: DriveProgress
) -> dict[str, str]:
    """Format the namespace by nvme-cli with its present block size, so that the controller erases it."""
    abilities = controller_abilities(machine.path(name))
    if not abilities["can_format" if method == "format" else "can_crypto_erase"] or abilities["namespaces_erased"] != 1:
        raise EraseFailed(f"the controller cannot do {method} for this namespace alone; nothing was written")
    argv = [
        "nvme",
        "format",
        machine.path(name),
        f"--ses={SES[method]}",
        "--force",
    ]  # --force: this process has the device open
    result = subprocess.run(
        argv, env=ENVIRONMENT, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False
    )
    output = result.stdout.decode(errors="replace").strip()
    # older versions then read the partitions again, which fails for an exclusively open device, and report that failure
    if result.returncode and "Success formatting" not in output:
        raise EraseFailed(
            f"`{' '.join(argv)}` ended with {result.returncode}: {output.splitlines()[-1] if output else 'no word'}"
        )
    return {"command": " ".join(argv), "tool": run_tool("nvme", "version").splitlines()[0].strip()}


METHODS = {"overwrite": overwrite, "discard": discard, "format": format_nvm, "crypto-erase": format_nvm}


def read_back(device: int, size: int, drive_progress: DriveProgress) -> dict[str, Any]:
    """Read the whole drive, and return the number of bytes read and of blocks with other content than zeros."""
    buffer, zeros = mmap.mmap(-1, CHUNK_BYTES), bytes(CHUNK_BYTES)
    offset, blocks, first = 0, 0, None
    while offset < size:
        try:
            length = os.preadv(device, [memoryview(buffer)[: size - offset]], offset)
        except OSError as error:
            raise EraseFailed(f"the drive cannot be read back at byte {offset}: {error.strerror}") from None
        if not length:
            raise EraseFailed(f"the drive ends at byte {offset}; its size is {size}")
        piece = buffer[:length]
        if piece != zeros[:length]:
            for start in range(0, length, BLOCK_BYTES):
                if piece[start : start + BLOCK_BYTES].strip(b"\0"):
                    blocks += 1
                    first = offset + start if first is None else first
        offset += length
        drive_progress.add(length)
    return {"bytes_read": offset, "block_bytes": BLOCK_BYTES, "blocks_with_content": blocks, "first_content_at": first}


# --- abilities of a drive -------------------------------------------------------------------------------------------


def drive_abilities(machine: block.BlockDevices, serial: str) -> dict[str, Any]:
    name = find_drive(machine, serial)
    path = machine.path(name)
    nvme_abilities: dict[str, Any] = {"can_format": False, "can_crypto_erase": False, "namespaces_erased": 1}
    if health.is_nvme(path):
        report = attempt(controller_abilities, path)
        nvme_abilities = dict.fromkeys(nvme_abilities, report) if "unknown" in report else report
    discards = attempt(number, f"{machine.sys(name)}/queue/discard_max_bytes")
    return {**nvme_abilities, "discard_max_bytes": discards, "in_use": attempt(is_in_use, path)}


def controller_abilities(path: str) -> dict[str, Any]:
    """Return which erase methods an NVMe controller supports for *path*, and how many namespaces they would erase."""
    identity = json.loads(run_tool("nvme", "id-ctrl", "--output-format=json", path))
    oacs, fna = int(identity["oacs"]), int(identity["fna"])
    formats = bool(oacs & FORMAT_NVM)
    namespaces = 1
    if fna & (FORMATS_ALL | ERASES_ALL):
        # this includes unattached namespaces, and namespaces of other hosts
        options = ("--all",) if oacs & NAMESPACE_MANAGEMENT else ()
        namespaces = run_tool("nvme", "list-ns", *options, path).count("]:0x")
    return {
        "can_format": formats,
        "can_crypto_erase": formats and bool(fna & CRYPTO_ERASE),
        "namespaces_erased": namespaces,
    }


def is_in_use(path: str) -> bool:
    """Return whether a mount, an array, swap or a program has opened the device exclusively."""
    try:
        with open_exclusive(path, os.O_RDONLY):
            return False
    except OSError as error:
        if error.errno == errno.EBUSY:
            return True
        raise


# --- progress -------------------------------------------------------------------------------------------------------


class TotalProgress:
    """The total progress of all drives in bytes written and read, printed every PROGRESS_SECONDS."""

    def __init__(self) -> None:
        self.drives: list[DriveProgress] = []
        self._lock = threading.Lock()
        self._printed_at, self._done_at_print = time.monotonic(), 0

    def begin(self, serial: str, method: str, size: int) -> DriveProgress:
        with self._lock:
            self.drives.append(DriveProgress(self, method, size * (2 if method == "overwrite" else 1)))
            print(f"{serial}: {method}", flush=True)
            return self.drives[-1]

    def print_progress(self) -> None:
        """Print the progress of all drives, at most every PROGRESS_SECONDS."""
        with self._lock:
            seconds = time.monotonic() - self._printed_at
            if seconds < PROGRESS_SECONDS:
                return
            done, total = sum(each.done for each in self.drives), sum(each.total for each in self.drives)
            rate = (done - self._done_at_print) / seconds
            self._printed_at, self._done_at_print = time.monotonic(), done
            activity = ", ".join(sorted({each.activity for each in self.drives if each.done < each.total}))
            print(progress(activity, done, total, rate), flush=True)


class DriveProgress:
    """The progress of one drive in bytes written and bytes read."""

    def __init__(self, total_progress: TotalProgress, method: str, total: int) -> None:
        self._total_progress, self.activity, self.total, self.done = total_progress, method, total, 0

    def add(self, count: int) -> None:
        self.done += count
        self._total_progress.print_progress()


def progress(activity: str, done: int, total: int, rate: float) -> str:
    """Return ``reading back: 41.5 %, 210 MB/s, 1 h 05 min left``; *rate* is in bytes per second."""
    text = f"{activity}: {100 * done / total:.1f} %, {rate / 1e6:.0f} MB/s"
    if not rate:
        return text
    hours, minutes = divmod(int((total - done) / rate // 60) + 1, 60)
    return f"{text}, {f'{hours} h {minutes:02} min' if hours else f'{minutes} min'} left"
