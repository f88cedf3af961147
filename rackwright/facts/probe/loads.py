"""The time at which each running service last read its files, and the files that changed since the start of the system.

A service that is older than a file still runs with an earlier version of it. Accounts can set mtime, but the kernel
alone sets ctime, at every change of a file, also if a file gets back its earlier content.
"""

from __future__ import annotations

import json
import os
import re
import time
from typing import Any, Iterator

from rackwright.facts.probe.observe import ReadError, attempt, listing, number, read, run_tool

RUNNING = ("active", "reloading", "refreshing", "activating", "deactivating")
"""Active states of units that may have a process."""
STARTED, ENTERED, CHANGED = (f"{name}TimestampMonotonic" for name in ("ExecMainStart", "ActiveEnter", "StateChange"))
"""Start of the main process; last change from inactive to active; last change of the state, as a reload ends in one."""
PROPERTIES = f"Id,MainPID,{STARTED},{ENTERED},{CHANGED},ExecReload"
RELOADED = re.compile(r"start_time=\[[^n]")
"""Part of a command of ExecReload that ran since systemd last read the unit; otherwise the time is ``n/a``."""
WORKER = b"nginx: worker process"
"""Title of a worker of nginx. At a reload nginx starts others, and names the earlier ones "is shutting down".

Any process can give itself this title: only the children of a main process of root count that run the same nginx.
"""
NGINX = "nginx"
"""Name of the file of that program."""
SSHD_PID = "/run/sshd.pid"
"""File that sshd writes each time it reads its settings: at its start, and after a reload.

Its time alone proves nothing, because root can set it: only a reload that systemd knows counts as well.
"""
DELETED = " (deleted)"
"""End of the path of a program whose file was replaced, in /proc/PID/exe."""
TASKS = "/run/containerd/io.containerd.runtime.v2.task/k8s.io"
"""Folders of the running containers of kubelet, which root alone may enter."""
MANIFESTS = "/etc/kubernetes/manifests"
NAMESPACE, CONTAINER = "io.kubernetes.cri.sandbox-namespace", "io.kubernetes.cri.container-name"
STAT_START = 19
"""Index of the start time in /proc/PID/stat, counted after the name of the process. Source: proc(5)."""
BILLION = 1_000_000_000


class Clocks:
    """The present distances of the other clocks from that of files, in nanoseconds."""

    def __init__(self) -> None:
        now = time.time_ns()
        self.monotonic = now - int(time.clock_gettime(time.CLOCK_MONOTONIC) * BILLION)
        self.boot = now - int(time.clock_gettime(time.CLOCK_BOOTTIME) * BILLION)
        self.tick = BILLION // os.sysconf("SC_CLK_TCK")


def loads(root: str, units: dict[str, Any]) -> dict[str, Any]:
    """Return for each running service the times of its start and of the last time that it read its files.

    A static pod of a control plane has the name ``pod:kube-apiserver``.
    """
    clocks = Clocks()
    names = sorted(name for name, unit in units.items() if name.endswith(".service") and unit["active"] in RUNNING)
    return {**services(root, names, clocks), **static_pods(root, clocks)}


def services(root: str, names: list[str], clocks: Clocks) -> dict[str, Any]:
    output = run_tool("systemctl", "show", f"--property={PROPERTIES}", "--", *names) if names else ""
    rows = {}
    for paragraph in output.split("\n\n"):
        values = dict(line.split("=", 1) for line in paragraph.splitlines() if "=" in line)
        if "Id" in values:
            rows[values["Id"]] = attempt(service, root, values["Id"], values, clocks)
    if missing := [name for name in names if name not in rows]:
        raise ReadError(f"systemctl shows nothing about {missing[0]}")
    return rows


def service(root: str, name: str, values: dict[str, str], clocks: Clocks) -> dict[str, Any]:
    """Return when the main process began, when it last read its files, and whether its program was replaced."""
    pid, monotonic = int(values["MainPID"]), int(values[STARTED])
    if not monotonic:
        raise ReadError("systemd does not know when its process began")
    started = monotonic * 1000 + clocks.monotonic
    loaded = [started, *read_again(root, name, values, clocks)]
    return {"started_ns": started, "loaded_ns": max(loaded), "program_replaced": pid > 0 and is_replaced(root, pid)}


def read_again(root: str, name: str, values: dict[str, str], clocks: Clocks) -> list[int]:
    """Return when a service read its files after its start; empty if it has not.

    A program with signs of its own shows a reload by them: it may refuse what it reads then, though the command that
    asked ends well. The workers of nginx are processes, whose start the kernel notes. The sign of sshd is the time of a
    file, which can only take a reload back that systemd has noted.
    """
    pid = int(values["MainPID"])
    workers = started_workers(root, pid, clocks) if pid else None
    if workers is not None:
        return workers
    asked = asked_to_reload(name, values, clocks)
    written = written_by_sshd(root, pid) if pid and asked else None
    return asked if written is None else [min(each, written) for each in asked]


def asked_to_reload(name: str, values: dict[str, str], clocks: Clocks) -> list[int]:
    """Return when systemd last asked a service to read its files."""
    if RELOADED.search(values.get("ExecReload", "")):
        return [time_of_reload(name, clocks)]
    if "ExecReload" in values and int(values[CHANGED]) > int(values[ENTERED]) >= int(values[STARTED]):
        # systemd has read its units again since that reload, and keeps only the time at which it ended
        return [int(values[CHANGED]) * 1000 + clocks.monotonic]
    return []


def time_of_reload(name: str, clocks: Clocks) -> int:
    """Return when the last command of ExecReload began that ended well; systemctl prints whole seconds alone."""
    object_path = "/org/freedesktop/systemd1/unit/" + "".join(
        character if character.isascii() and character.isalnum() else f"_{ord(character):02x}" for character in name
    )
    answer = run_tool(
        "busctl", "--json=short", "get-property", "org.freedesktop.systemd1", object_path,
        "org.freedesktop.systemd1.Service", "ExecReload",
    )  # fmt: skip
    commands = json.loads(answer)["data"]
    if not all(status == 0 for *_, code, status in commands):
        return 0
    return max(int(monotonic) for _, _, _, _, monotonic, *_ in commands) * 1000 + clocks.monotonic


def started_workers(root: str, pid: int, clocks: Clocks) -> list[int] | None:
    """Return when the earliest worker of a running nginx began; None for another program.

    nginx replaces a worker that ended by one with the settings of the last reload: only the earliest shows that time.
    """
    try:
        own = program_of(root, pid)
        if own[0] != NGINX or not is_of_root(root, pid):
            return None
    except (FileNotFoundError, ProcessLookupError):
        return None  # it has just ended
    starts = []
    for child in children(root, pid):
        try:
            if title(root, child) == WORKER and program_of(root, child) == own:
                starts.append(began(root, child, clocks))
        except (FileNotFoundError, ProcessLookupError):
            continue
    return [min(starts)] if starts else []


def program_of(root: str, pid: int) -> tuple[str, int, int]:
    """Return the name, the device and the inode of the program that a process runs."""
    path = f"{root}/proc/{pid}/exe"
    name, status = os.readlink(path), os.stat(path)
    name = name[: -len(DELETED)] if name.endswith(DELETED) else name
    return os.path.basename(name), status.st_dev, status.st_ino


def is_of_root(root: str, pid: int) -> bool:
    """Return whether all user IDs of a process are root's. The owner of its folder in /proc may be another one."""
    for line in read(f"{root}/proc/{pid}/status").splitlines():
        if line.startswith("Uid:"):
            return set(line.split()[1:]) == {"0"}
    raise ReadError(f"the kernel shows no user of process {pid}")


def written_by_sshd(root: str, pid: int) -> int | None:
    """Return when the sshd of a host last wrote its number to SSHD_PID; None for another program."""
    try:
        if number(root + SSHD_PID) == pid:
            return os.stat(root + SSHD_PID).st_mtime_ns
    except (OSError, ValueError, ReadError):
        pass  # another program, or an sshd without that file
    return None


def is_replaced(root: str, pid: int) -> bool:
    try:
        return os.readlink(f"{root}/proc/{pid}/exe").endswith(DELETED)
    except FileNotFoundError:
        return False  # it has just ended


def children(root: str, pid: int) -> Iterator[int]:
    for task in listing(f"{root}/proc/{pid}/task"):
        try:
            yield from map(int, read(f"{root}/proc/{pid}/task/{task}/children").split())
        except (FileNotFoundError, ProcessLookupError):
            continue


def title(root: str, pid: int) -> bytes:
    try:
        with open(f"{root}/proc/{pid}/cmdline", "rb") as file:
            return file.read(4096).rstrip(b"\0 ")
    except (FileNotFoundError, ProcessLookupError):
        return b""


def began(root: str, pid: int, clocks: Clocks) -> int:
    """Return when a process began, in nanoseconds since 1970 by the present clock."""
    fields = read(f"{root}/proc/{pid}/stat").rpartition(")")[2].split()
    return int(fields[STAT_START]) * clocks.tick + clocks.boot


def static_pods(root: str, clocks: Clocks) -> dict[str, Any]:
    """Return the same for the containers of static pods, which kubelet starts from the files in MANIFESTS.

    The names come from kubelet: no account of the cluster but its administrators makes pods in kube-system.
    """
    rows: dict[str, Any] = {}
    components = {name[: -len(".yaml")] for name in listing(root + MANIFESTS, "*.yaml")}
    for container in listing(root + TASKS) if components else ():
        folder = f"{root}{TASKS}/{container}"
        try:
            with open(f"{folder}/config.json", "rb") as file:
                annotations = json.load(file).get("annotations") or {}
            name = annotations.get(CONTAINER)
            if annotations.get(NAMESPACE) == "kube-system" and name in components:
                start = began(root, number(f"{folder}/init.pid"), clocks)
                key = f"pod:{name}"
                earlier = rows.get(key, {}).get("started_ns", start)
                rows[key] = {
                    "started_ns": min(start, earlier), "loaded_ns": min(start, earlier), "program_replaced": False,
                }  # fmt: skip
        except (FileNotFoundError, ProcessLookupError):
            continue  # it has just ended
    return rows


def start_of_system(root: str) -> int:
    """Return when the first process began, in nanoseconds since 1970; no service is older."""
    return began(root, 1, Clocks())
