"""System calls for namespaces and mounts, which Python's library has since 3.12 or not at all."""

import ctypes
import os
from pathlib import Path

MOUNT = 0x00020000
NETWORK = 0x40000000
PROCESSES = 0x20000000
"""Kinds of namespaces. Source: linux/sched.h, CLONE_NEW*."""

_PRIVATE = 1 << 18
_RECURSIVE = 1 << 14
_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None, use_errno=True)


def unshare(kinds: int) -> None:
    """Leave the namespaces of *kinds* for new ones. Only children enter a new process namespace."""
    _check(_libc.unshare(kinds))


def enter(namespace: int, kind: int) -> None:
    """Enter the namespace that is open as *namespace*."""
    _check(_libc.setns(namespace, kind))


def keep_mounts_private() -> None:
    """Hide all later mounts of this mount namespace from other namespaces."""
    _check(_libc.mount(b"none", b"/", None, _PRIVATE | _RECURSIVE, None))


def mount(filesystem: str, target: Path) -> None:
    """Mount a *filesystem* that has no device."""
    _check(_libc.mount(filesystem.encode(), os.fsencode(target), filesystem.encode(), 0, None))


def die_with_parent(signal_number: int) -> None:
    """Ask the kernel to send this process a signal when its parent dies."""
    _check(_libc.prctl(_PR_SET_PDEATHSIG, signal_number))


def _check(result: int) -> None:
    if result == -1:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
