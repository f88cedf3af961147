"""The programs of BPF that see or change packets beside the filters of traffic control: their number at each place.

Layouts: include/uapi/linux/bpf.h of Linux. The command asks for a number alone, and loads nothing.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct

from rackwright.facts.probe.block import CONTAINER_MARKS
from rackwright.facts.probe.observe import ReadError

SYSCALL = {"x86_64": 321, "aarch64": 280, "riscv64": 280, "ppc64le": 361, "s390x": 351}
PROGRAM_QUERY, BYTES = 16, 64
OF_LINKS = {46: "arrivals", 47: "departures"}
"""Places of a link, in Linux 6.6 and later."""
OF_GROUPS = {
    8: "bind", 9: "bind of IPv6", 10: "connect", 11: "connect of IPv6", 14: "sendmsg", 15: "sendmsg of IPv6",
    19: "recvmsg", 20: "recvmsg of IPv6", 29: "getpeername", 30: "getpeername of IPv6", 31: "getsockname",
    32: "getsockname of IPv6",
}  # fmt: skip
"""Calls for which a program of the control group of all processes can put another address."""
SOCKET_LOOKUP = 36
GROUP_OF_ALL = ("/sys/fs/cgroup/unified", "/sys/fs/cgroup")
NOT_HERE = (errno.EINVAL, errno.ENOSYS, errno.EBADF, errno.EOPNOTSUPP, errno.ENODEV)
"""Answers of a kernel without BPF or without a place, of a directory of version 1, and for a link that has gone."""
CONTROL_GROUPS, SOCKETS = "control groups", "sockets"


def programs(root: str, links: dict[int, str]) -> dict[str, list[str]]:
    """Return the places that have programs, by the name of the link, for all control groups and for sockets."""
    try:
        return all_programs(root, links)
    except PermissionError:
        if any(os.path.exists(root + mark) for mark in CONTAINER_MARKS):
            return {}  # the kernel is that of its computer, which alone has programs
        raise


def all_programs(root: str, links: dict[int, str]) -> dict[str, list[str]]:
    rows: dict[str, list[str]] = {}
    for index, name in links.items():
        found = [f"a program of BPF for {place}" for kind, place in OF_LINKS.items() if count(index, kind)]
        if found:
            rows[name] = found
    for folder in GROUP_OF_ALL:
        if os.path.isdir(root + folder):
            with_descriptor(root + folder, OF_GROUPS, CONTROL_GROUPS, rows)
            break
    with_descriptor(f"{root}/proc/self/ns/net", {SOCKET_LOOKUP: "the choice of a socket"}, SOCKETS, rows)
    return rows


def with_descriptor(path: str, kinds: dict[int, str], key: str, rows: dict[str, list[str]]) -> None:
    """Add the places at *path* that have programs to *rows*."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        found = [f"a program of BPF for {place}" for kind, place in kinds.items() if count(descriptor, kind)]
    finally:
        os.close(descriptor)
    if found:
        rows[key] = found


def count(target: int, kind: int) -> int:
    """Return the number of programs at a place; *target* is the index of a link, or a descriptor."""
    number = SYSCALL.get(os.uname().machine)
    if number is None:
        raise ReadError(f"the probe does not know the call for programs of BPF on {os.uname().machine}")
    buffer = ctypes.create_string_buffer(struct.pack("=IIIIQI", target, kind, 0, 0, 0, 0), BYTES)
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.syscall(number, PROGRAM_QUERY, buffer, BYTES) < 0:
        code = ctypes.get_errno()
        if code in NOT_HERE:
            return 0
        raise OSError(code, os.strerror(code), "the call bpf")
    return int(struct.unpack_from("=I", buffer, 24)[0])
