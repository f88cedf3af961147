"""Processes of this computer by what /proc says: their children, command lines, variables and processor time."""

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

PROC = Path("/proc")
TICKS = os.sysconf("SC_CLK_TCK")


def command_line(pid: int) -> list[str]:
    """Return the words of a process; empty if it has ended."""
    return _read(pid, "cmdline").decode(errors="replace").split("\0")[:-1]


def variables(pid: int) -> dict[str, str]:
    """Return the environment with which a process began."""
    pairs = (each.partition("=") for each in _read(pid, "environ").decode(errors="replace").split("\0"))
    return {name: value for name, _, value in pairs}


def tree(pid: int) -> list[int]:
    """Return *pid* and all processes below it."""
    parents = {each: _parent(each) for each in _pids()}
    found = [pid]
    for process in found:
        found += [child for child, parent in parents.items() if parent == process]
    return found


def pulumis(command: int) -> list[int]:
    """Return the processes of pulumi below the process *command*, each of which has a guard as its parent."""
    return [pid for pid in tree(command) if Path((*command_line(pid), "")[0]).name == "pulumi"]


def cpu_seconds(pids: Iterable[int]) -> float:
    """Return the seconds, user and system, that processes have used, without those of children that have ended."""
    return sum(sum(map(int, stat[11:13])) for pid in pids if (stat := _stat(pid))) / TICKS


def _pids() -> Iterator[int]:
    return (int(each.name) for each in PROC.iterdir() if each.name.isdecimal())


def _parent(pid: int) -> int:
    stat = _stat(pid)
    return int(stat[1]) if stat else 0


def _stat(pid: int) -> list[str]:
    """Return the fields of stat behind the name, which may have blanks. Source: proc(5)."""
    return _read(pid, "stat").decode(errors="replace").rpartition(")")[2].split()


def _read(pid: int, name: str) -> bytes:
    try:
        return (PROC / str(pid) / name).read_bytes()
    except OSError:
        return b""
