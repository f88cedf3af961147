"""The processes behind listening sockets, and the devices that processes have open: one walk over /proc."""

from __future__ import annotations

import os
import re
from typing import Any, Callable, Iterator

from rackwright.facts.probe.network import LISTENING, UNCONNECTED, endpoint
from rackwright.facts.probe.observe import ReadError, attempt, listing, read

INODE = 9
"""Index of the inode in a line of /proc/net/tcp. Source: proc_net_tcp.rst of Linux."""
UNIT = re.compile(r"/([^/]+\.(?:service|scope|socket))(?:/|$)")
"""The units in a path of /proc/PID/cgroup; the last one is the closest."""
POD = re.compile(r"^0::/(k8s\.io/[0-9a-f]{64})$", re.MULTILINE)
"""Control group of a pod's container, made by containerd with the manager cgroupfs. Only root makes such groups."""


def open_files(root: str) -> dict[str, list[int]]:
    """Return the processes that have each socket or device open, by the target of its link in /proc/PID/fd."""
    users: dict[str, list[int]] = {}
    processes = [pid for pid in listing(f"{root}/proc") if pid.isdecimal()]
    if not processes:
        raise ReadError(f"{root}/proc has no processes, not even this one")
    for pid in processes:
        for target in targets(f"{root}/proc/{pid}/fd"):
            users.setdefault(target, []).append(int(pid))
    return users


def targets(folder: str) -> set[str]:
    """Return the sockets and devices among the open files of a process; empty for a process that has just ended."""
    found: set[str] = set()
    try:
        names = os.listdir(folder)
    except (FileNotFoundError, ProcessLookupError):
        return found
    for name in names:
        try:
            target = os.readlink(f"{folder}/{name}")
        except (FileNotFoundError, ProcessLookupError):
            continue
        if target.startswith(("socket:", "/dev/")):
            found.add(target)
    return found


def listeners(root: str, users: dict[str, list[int]]) -> list[dict[str, Any]]:
    """Return the listening TCP sockets and the unconnected UDP sockets with their programs and units.

    A socket without a process is one of the kernel, such as those of NFS and WireGuard.
    """
    owners: dict[tuple[str, str, int], set[int]] = {}
    for protocol, table, state in (
        ("tcp", "tcp", LISTENING),
        ("tcp", "tcp6", LISTENING),
        ("udp", "udp", UNCONNECTED),
        ("udp", "udp6", UNCONNECTED),
    ):
        for address, port, inode in rows(f"{root}/proc/net/{table}", state):
            owners.setdefault((protocol, address, port), set()).update(users.get(f"socket:[{inode}]", ()))
    return [
        {
            **dict(zip(("protocol", "address", "port"), key)),
            "programs": attempt(of_each, program, root, pids),
            "units": attempt(of_each, unit, root, pids),
        }
        for key, pids in sorted(owners.items())
    ]


def programs_of(found: list[dict[str, Any]]) -> set[str]:
    """Return the programs of all listeners whose programs are known."""
    return {path for row in found if isinstance(row["programs"], list) for path in row["programs"]}


def rows(path: str, state: str) -> Iterator[tuple[str, int, str]]:
    """Yield address, port and inode of the sockets in *state*; nothing while the protocol is disabled."""
    if not os.path.exists(path):
        return
    with open(path) as lines:
        next(lines)
        for fields in map(str.split, lines):
            if fields[3] == state:
                yield (*endpoint(fields[1]), fields[INODE])


def of_each(read_one: Callable[[str], str], root: str, pids: set[int]) -> list[str]:
    """Return what *read_one* returns for the processes, sorted, without empty texts."""
    return sorted({read_one(f"{root}/proc/{pid}") for pid in pids} - {""})


def program(folder: str) -> str:
    """Return the path of a process's program; empty for a process that has just ended."""
    try:
        return os.readlink(f"{folder}/exe")
    except (FileNotFoundError, ProcessLookupError):
        return ""


def unit(folder: str) -> str:
    """Return the systemd unit of a process, or the control group of its pod where systemd has none for pods.

    The text is empty for a process without either, or one that has just ended.
    """
    try:
        groups = read(f"{folder}/cgroup")
    except (FileNotFoundError, ProcessLookupError):
        return ""
    names = UNIT.findall(groups) or POD.findall(groups)
    return names[-1] if names else ""
