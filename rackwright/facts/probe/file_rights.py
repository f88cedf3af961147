"""Rights and attributes of a file beside those that most packaged files have."""

from __future__ import annotations

import ctypes
import os
import stat
from typing import Callable

from rackwright.facts.probe.file_walk import Row
from rackwright.facts.probe.observe import attempt

RIGHTS = stat.S_ISUID | stat.S_ISGID | stat.S_IWGRP | stat.S_IWOTH
XATTRS = {
    "security.capability": "capabilities",
    "system.posix_acl_access": "acl",
    "system.posix_acl_default": "default_acl",
}
"""Key of a row for each extended attribute that gives rights. Source: capabilities(7), acl(5)."""
IMMUTABLE, APPEND_ONLY = 0x10, 0x20
"""STATX_ATTR_IMMUTABLE and STATX_ATTR_APPEND, include/uapi/linux/stat.h."""
AT_FDCWD, NO_FOLLOW = -100, 0x100
KEPT = ("rights", *XATTRS.values(), "flags")


def special_rights(path: str, status: os.stat_result) -> Row:
    """Return the rights of a file beside those that most packaged files have; empty for a plain one."""
    row: Row = {}
    mode = status.st_mode
    if status.st_uid or status.st_gid or (mode & RIGHTS and not stat.S_ISLNK(mode)):
        row["rights"] = True
    if stat.S_ISLNK(mode):
        return row
    try:
        names = os.listxattr(path, follow_symlinks=False)
    except OSError:
        names = []
    for name in names:
        if name in XATTRS:
            row[XATTRS[name]] = attempt(lambda name=name: os.getxattr(path, name, follow_symlinks=False).hex())
    if flags := statx_flags(path):
        row["flags"] = flags
    return row


def _statx() -> Callable[..., int] | None:
    try:
        function: Callable[..., int] = ctypes.CDLL(None, use_errno=False).statx
    except (OSError, AttributeError):
        return None  # a libc without it
    return function


STATX = _statx()
BUFFER = ctypes.create_string_buffer(256)


def statx_flags(path: str) -> str:
    """Return the attributes that keep even root from changing a file: ``immutable``, ``append-only``, or nothing."""
    if STATX is None or STATX(AT_FDCWD, os.fsencode(path), NO_FOLLOW, 0, BUFFER) != 0:
        return ""
    attributes = int.from_bytes(BUFFER.raw[8:16], "little")
    names = (("immutable", IMMUTABLE), ("append-only", APPEND_ONLY))
    return ", ".join(name for name, bit in names if attributes & bit)
