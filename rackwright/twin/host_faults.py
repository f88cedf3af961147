"""Faults of a host's own system: a full disk, a wrong clock."""

import time
from pathlib import PurePosixPath

from rackwright.errors import DeclarationError, Diagnostic
from rackwright.twin.guest_shell import require_power, run_in_guest, virtual_machine
from rackwright.twin.twin import Twin

FILLER = ".rackwright-full"
"""Name of the file that takes all free space, in the root of the full filesystem."""

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
_SET_CLOCK = """\
set -e
up() { sed 's/[. ].*//' /proc/uptime; }
before=$(up)
date --utc --set="@$1" > /dev/null
off=$(($(date +%s) - $1))
[ $off -ge 0 ] && [ $off -le $(($(up) - before + 1)) ]
"""
"""The clock may only be ahead by the time since it was set, which is long on a busy computer."""


def fill(twin: Twin, host: str, path: str) -> None:
    """Fill the filesystem at *path*, so that also root finds no free space.

    Raises:
        DeclarationError: *path* is not absolute or has a quote, or the host is a container without a disk of its own.
    """
    run_in_guest(_require_own(twin, host, "a disk"), host, _FILL, f"disk at {_check_path(host, path)}", path)


def free(twin: Twin, host: str, path: str) -> None:
    """Release the space that `fill` has taken."""
    run_in_guest(_require_own(twin, host, "a disk"), host, _FREE, f"disk at {_check_path(host, path)}", path)


def skew(twin: Twin, host: str, seconds: int) -> None:
    """Set the clock of *host* ahead by *seconds*, behind if negative; 0 sets the right time.

    A time daemon on the host corrects the clock again, sooner or later.
    """
    _require_own(twin, host, "a clock")
    run_in_guest(twin, host, _SET_CLOCK, "clock", str(int(time.time()) + seconds))


def _require_own(twin: Twin, host: str, part: str) -> Twin:
    virtual_machine(twin, host, part)
    require_power(twin, host)
    return twin


def _check_path(host: str, path: str) -> str:
    if not PurePosixPath(path).is_absolute() or "'" in path:
        problem, expected = f"{path!r} is not a mount point", "an absolute path without quotes"
        raise DeclarationError(Diagnostic(f"{host}: disk", problem, expected, "Name the mount point of the disk"))
    return path
