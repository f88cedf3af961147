"""Erases whole drives, each found by its serial now and held alone, and reads every block of them back.

Blocks are read and written past the page cache. What became of each drive stands in a report, a file of root's; nothing
else tells of a drive that was erased in part but its content.
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
    Refused,
    check_content,
    check_it_is,
    flush,
    found,
    held,
    held_or_refused,
)

ROOT = ""
"""Below which the /sys, /dev and /proc of the machine lie."""
BLOCK_BYTES = 4096
CHUNK_BYTES = 4 << 20
DISCARD_BYTES = 1 << 30
"""At a time: a discard of a whole drive in one call could not be interrupted."""
PROGRESS_SECONDS = 10
BLKDISCARD = 0x1277
"""Source: include/uapi/linux/fs.h."""
FORMAT_NVM, NAMESPACE_MANAGEMENT = 1 << 1, 1 << 3
"""Of OACS. Source, also of FNA: NVM Express Base Specification, Identify Controller data structure."""
FORMATS_ALL, ERASES_ALL, CRYPTO_ERASE = 1 << 0, 1 << 1, 1 << 2
SES = {"format": 1, "crypto-erase": 2}
"""Secure Erase Settings of Format NVM: user data erase, and cryptographic erase."""


class Failed(Exception):
    """Why a drive is not erased, or cannot be known to be."""


def main(job: dict[str, Any]) -> None:
    """Print what the drives of *job* can do; or erase them, and write a report."""
    machine = block.Machine(ROOT)
    if job["do"] == "look":
        print(json.dumps({serial: attempt(abilities, machine, serial) for serial in job["serials"]}))
        return
    report, work = Path(job["report"]), Work()
    with contextlib.suppress(FileNotFoundError):
        report.unlink()
    with ThreadPoolExecutor(len(job["serials"])) as pool:
        one = partial(reported, machine, contents=job["contents"], method=job["method"], work=work)
        ended = list(pool.map(one, job["serials"]))
    report.touch(mode=0o600)
    report.write_text(json.dumps({"id": job["id"], "drives": dict(zip(job["serials"], ended))}))


def reported(machine: block.Machine, serial: str, contents: dict[str, str], method: str, work: Work) -> dict[str, Any]:
    try:
        return erased(machine, serial, contents[serial], method, work)
    except Refused as reason:
        return {"failed": f"{reason}; nothing was written"}
    except (Failed, ReadError) as reason:
        return {"failed": str(reason)}
    except OSError as error:
        return {"failed": f"{error.filename}: {error.strerror}" if error.filename else str(error)}
    except Exception as error:  # of any sort: what is odd about one drive must not lose what became of the others
        return {"failed": f"{type(error).__name__}: {error}"}


# --- one drive ------------------------------------------------------------------------------------------------------


def erased(machine: block.Machine, serial: str, content: str, method: str, work: Work) -> dict[str, Any]:
    """Erase the drive with this serial, read it back, and return what was done and found.

    Args:
        content: What may be on it, in the words of a consent.

    Raises:
        Refused: it is not there, or something else is on it; nothing was written.
        Failed: it could not be erased; says what was written.
        OSError: somebody else holds it, or it cannot be read or written.
    """
    name = found(machine, serial)
    with held_or_refused(serial, machine, name, os.O_RDWR | os.O_DIRECT) as device:
        check_it_is(serial, device, machine, name)
        size = os.lseek(device, 0, os.SEEK_END)
        flush(device)
        check_content(serial, content, block.Machine(ROOT), name)
        began, account = now(), work.begin(serial, method, size)
        told = METHODS[method](machine, name, device, size, method, account)
        os.fsync(device)
        if os.lseek(device, 0, os.SEEK_END) != size:
            raise Failed("it has another size after that; look at it by hand")
        flush(device)
        ended, account.doing = now(), "reading back"
        verification = read_back(device, size, account)
        return {
            **told,
            "started_at": began,
            "ended_at": ended,
            "size_bytes": size,
            "kernel": f"Linux {os.uname().release}",
            "verification": {**verification, "ended_at": now()},
        }


def now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="seconds")


# --- methods --------------------------------------------------------------------------------------------------------


def overwrite(
    machine: block.Machine, name: str, device: int, size: int, method: str, account: Account
) -> dict[str, str]:
    """Write zeros once over every block."""
    zeros, offset = memoryview(mmap.mmap(-1, CHUNK_BYTES)), 0
    while offset < size:
        try:
            written = os.pwrite(device, zeros[: size - offset], offset)
        except OSError as error:
            raise Failed(f"it cannot be written at byte {offset}: {error.strerror}") from None
        offset += written
        account.add(written)
    return {"command": f"one pass of zeros over {size} bytes, O_DIRECT", "tool": f"Python {platform.python_version()}"}


def discard(machine: block.Machine, name: str, device: int, size: int, method: str, account: Account) -> dict[str, str]:
    """Tell the drive that nobody needs any of its blocks, as blkdiscard(8) does."""
    if number(f"{machine.sys(name)}/queue/discard_max_bytes") == 0:
        raise Failed("it takes no discards; nothing was written")
    for offset in range(0, size, DISCARD_BYTES):
        discard_range(device, offset, min(DISCARD_BYTES, size - offset))
    return {"command": f"ioctl BLKDISCARD over {size} bytes", "tool": f"Linux {os.uname().release}"}


def discard_range(device: int, offset: int, length: int) -> None:
    fcntl.ioctl(device, BLKDISCARD, struct.pack("QQ", offset, length))


def format_nvm(
    machine: block.Machine, name: str, device: int, size: int, method: str, account: Account
) -> dict[str, str]:
    """Have the controller erase the namespace, by nvme-cli. It keeps its block size."""
    able = controller(machine.path(name))
    if not able["can_format" if method == "format" else "can_crypto_erase"] or able["namespaces_erased"] != 1:
        raise Failed(f"its controller cannot do {method} to it alone; nothing was written")
    argv = ["nvme", "format", machine.path(name), f"--ses={SES[method]}", "--force"]  # the device is held by us
    ended = subprocess.run(
        argv, env=ENVIRONMENT, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False
    )
    said = ended.stdout.decode(errors="replace").strip()
    # older ones look for partitions then, which no device allows that is held, and end badly for that
    if ended.returncode and "Success formatting" not in said:
        raise Failed(
            f"`{' '.join(argv)}` ended with {ended.returncode}: {said.splitlines()[-1] if said else 'no word'}"
        )
    return {"command": " ".join(argv), "tool": run_tool("nvme", "version").splitlines()[0].strip()}


METHODS = {"overwrite": overwrite, "discard": discard, "format": format_nvm, "crypto-erase": format_nvm}


def read_back(device: int, size: int, account: Account) -> dict[str, Any]:
    """Read all of it, and return how much that was and in how many blocks of it there is anything but zeros."""
    buffer, zeros = mmap.mmap(-1, CHUNK_BYTES), bytes(CHUNK_BYTES)
    offset, left, first = 0, 0, None
    while offset < size:
        try:
            length = os.preadv(device, [memoryview(buffer)[: size - offset]], offset)
        except OSError as error:
            raise Failed(f"it cannot be read back at byte {offset}: {error.strerror}") from None
        if not length:
            raise Failed(f"it ends at byte {offset}, and should have {size}")
        piece = buffer[:length]
        if piece != zeros[:length]:
            for place in range(0, length, BLOCK_BYTES):
                if piece[place : place + BLOCK_BYTES].strip(b"\0"):
                    left += 1
                    first = offset + place if first is None else first
        offset += length
        account.add(length)
    return {"bytes_read": offset, "block_bytes": BLOCK_BYTES, "blocks_with_content": left, "first_content_at": first}


# --- what a drive can do --------------------------------------------------------------------------------------------


def abilities(machine: block.Machine, serial: str) -> dict[str, Any]:
    name = found(machine, serial)
    path = machine.path(name)
    able: dict[str, Any] = {"can_format": False, "can_crypto_erase": False, "namespaces_erased": 1}
    if health.is_nvme(path):
        told = attempt(controller, path)
        able = dict.fromkeys(able, told) if "unknown" in told else told
    discards = attempt(number, f"{machine.sys(name)}/queue/discard_max_bytes")
    return {**able, "discard_max_bytes": discards, "in_use": attempt(is_held, path)}


def controller(path: str) -> dict[str, Any]:
    """Return what an NVMe controller can do to the namespace at *path*, and to how many it would do it at once."""
    told = json.loads(run_tool("nvme", "id-ctrl", "--output-format=json", path))
    oacs, fna = int(told["oacs"]), int(told["fna"])
    formats = bool(oacs & FORMAT_NVM)
    namespaces = 1
    if fna & (FORMATS_ALL | ERASES_ALL):
        # those that no controller is attached to, and that are another host's, would be erased with it
        every = ("--all",) if oacs & NAMESPACE_MANAGEMENT else ()
        namespaces = run_tool("nvme", "list-ns", *every, path).count("]:0x")
    return {
        "can_format": formats,
        "can_crypto_erase": formats and bool(fna & CRYPTO_ERASE),
        "namespaces_erased": namespaces,
    }


def is_held(path: str) -> bool:
    """Whether anybody has the device for themselves: a mount, an array, swap, or a program."""
    try:
        with held(path, os.O_RDONLY):
            return False
    except OSError as error:
        if error.errno == errno.EBUSY:
            return True
        raise


# --- how far it is --------------------------------------------------------------------------------------------------


class Work:
    """What is to be written and read on all drives together, told of every ten seconds."""

    def __init__(self) -> None:
        self.accounts: list[Account] = []
        self._lock = threading.Lock()
        self._told_at, self._done_then = time.monotonic(), 0

    def begin(self, serial: str, method: str, size: int) -> Account:
        with self._lock:
            self.accounts.append(Account(self, method, size * (2 if method == "overwrite" else 1)))
            print(f"{serial}: {method}", flush=True)
            return self.accounts[-1]

    def tell(self) -> None:
        """Print how far all of it is, unless that was just done."""
        with self._lock:
            seconds = time.monotonic() - self._told_at
            if seconds < PROGRESS_SECONDS:
                return
            done, total = sum(each.done for each in self.accounts), sum(each.total for each in self.accounts)
            rate = (done - self._done_then) / seconds
            self._told_at, self._done_then = time.monotonic(), done
            doing = ", ".join(sorted({each.doing for each in self.accounts if each.done < each.total}))
            print(progress(doing, done, total, rate), flush=True)


class Account:
    """The bytes of one drive, each counted when it is written and when it is read."""

    def __init__(self, work: Work, method: str, total: int) -> None:
        self._work, self.doing, self.total, self.done = work, method, total, 0

    def add(self, count: int) -> None:
        self.done += count
        self._work.tell()


def progress(doing: str, done: int, total: int, rate: float) -> str:
    """Return ``reading back: 41.5 %, 210 MB/s, 1 h 05 min left``, the rate in bytes a second."""
    text = f"{doing}: {100 * done / total:.1f} %, {rate / 1e6:.0f} MB/s"
    if not rate:
        return text
    hours, minutes = divmod(int((total - done) / rate // 60) + 1, 60)
    return f"{text}, {f'{hours} h {minutes:02} min' if hours else f'{minutes} min'} left"
