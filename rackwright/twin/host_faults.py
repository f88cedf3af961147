"""What goes wrong in a host's own system: a disk that is full, a clock that is off."""

import time
from pathlib import PurePosixPath

from rackwright.errors import DeclarationError
from rackwright.twin.guest_shell import in_guest, need_power, virtual_machine
from rackwright.twin.twin import Twin

FILLER = ".rackwright-full"
"""The file that takes all the room, in the root of what is filled."""
CLOCK_SECONDS = 5
"""How exactly the clock is set: a guest that is emulated takes a moment to hear of it."""

_FILL = f"""\
set -e
mountpoint -q "$1" || {{ echo "nothing is mounted there" >&2; exit 1; }}
free() {{ df --output=avail --block-size=1 "$1" | tail -n 1 | tr -d ' '; }}
fallocate -l "$(free "$1")" "$1/{FILLER}" 2>/dev/null || true
dd if=/dev/zero of="$1/{FILLER}" bs=64K oflag=append conv=notrunc status=none 2>/dev/null || true
dd if=/dev/zero of="$1/{FILLER}" bs=512 oflag=append conv=notrunc status=none 2>/dev/null || true
[ "$(free "$1")" -lt 65536 ]
"""
_FREE = f"""\
set -e
rm -f "$1/{FILLER}"
[ "$(df --output=avail "$1" | tail -n 1)" -gt 0 ]
"""
_SET = f"""\
set -e
date --utc --set="@$1" > /dev/null
off=$(($(date +%s) - $1))
[ $off -ge 0 ] && [ $off -le {CLOCK_SECONDS} ]
"""


def fill(twin: Twin, host: str, path: str) -> None:
    """Leave no room on what is mounted at *path*, also for root.

    Raises:
        DeclarationError: *path* is no plain, absolute one; a container has no disk of its own.
    """
    in_guest(_with_own(twin, host, "a disk"), host, _FILL, f"disk at {_plain(host, path)}", path)


def free(twin: Twin, host: str, path: str) -> None:
    """Give the room back that `fill` has taken."""
    in_guest(_with_own(twin, host, "a disk"), host, _FREE, f"disk at {_plain(host, path)}", path)


def skew(twin: Twin, host: str, seconds: int) -> None:
    """Let the clock of *host* be off by so much, early if negative; 0 sets it right.

    Whatever follows a time server there sets it right again, sooner or later.
    """
    _with_own(twin, host, "a clock")
    in_guest(twin, host, _SET, "clock", str(int(time.time()) + seconds))


def _with_own(twin: Twin, host: str, what: str) -> Twin:
    virtual_machine(twin, host, what)
    need_power(twin, host)
    return twin


def _plain(host: str, path: str) -> str:
    if not PurePosixPath(path).is_absolute() or "'" in path:
        want, fix = "a disk is named by where it is mounted", "Write an absolute path without quotes"
        raise DeclarationError(f"{host}: disk", f"got {path!r}", want, fix)
    return path
