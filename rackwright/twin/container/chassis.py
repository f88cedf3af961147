"""What a container is plugged into: `python -m rackwright.twin.container.chassis JSON`, one process for each.

It makes a network with the declared NICs, lets the container start inside, and carries what goes in and out: SSH from
a port of this computer, frames to the twin's switch, and what it asks of mirrors, where it is lent some. It lives as
long as the container, and the container no longer than it: by whatever signal it dies, the kernel ends all processes
inside with the first of them. Only a control group has to be removed by somebody: by a small shell that outlives both
for a moment.
"""

import contextlib
import fcntl
import json
import os
import selectors
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

from rackwright.twin.container import namespaces
from rackwright.twin.container.cable import Cable, Line, Watch, tap

CGROUPS = Path("/sys/fs/cgroup")
REBOOT = 133
"""What systemd-nspawn ends with when the container wants to start again. Source: systemd-nspawn(1), --keep-unit."""
POWER_BUTTON = signal.SIGRTMIN + 4
"""To systemd: power off. Source: systemd(1)."""

_IP_FREEBIND = 15
"""Lets an address be bound before its interface is up. Source: linux/in.h."""

_SWEEP = """\
read -r _
echo 1 > "$1/cgroup.kill"
tries=0
until find "$1" -depth -type d -exec rmdir {} + || [ $((tries += 1)) -gt 200 ]; do sleep 0.05; done
"""
"""In sh: wait for the end of standard input, then remove a control group with all that is in it, within ten seconds."""


def main(told: dict[str, Any]) -> int:
    """Be the chassis that *told* describes (see `container.command_line`); return what the container ended with."""
    remains = os.open(told["remains"], os.O_RDWR | os.O_CREAT, 0o600)
    fcntl.flock(remains, fcntl.LOCK_EX)  # waits until nothing is left of this container's last life
    group = CGROUPS / told["cgroup"]
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.setblocking(False)
        listener.bind(("127.0.0.1", told["port"]))
        listener.listen(64)
        outside = {kind: os.open(f"/proc/self/ns/{name}", os.O_RDONLY) for kind, name in _NAMES.items()}
        namespaces.unshare(namespaces.MOUNT)
        namespaces.keep_mounts_private()
        if not _is_cgroup2(str(CGROUPS)):
            namespaces.mount("cgroup2", CGROUPS)
        sweeper = _start_sweeper(group, remains)
        status = REBOOT
        while status == REBOOT:
            for kind, namespace in outside.items():
                namespaces.enter(namespace, kind)
            namespaces.unshare(namespaces.NETWORK | namespaces.PROCESSES)
            _make_empty(group)
            status = _run(told, listener, outside[namespaces.NETWORK])
    sweeper.communicate()
    return status


_NAMES = {namespaces.NETWORK: "net", namespaces.PROCESSES: "pid"}


def _run(told: dict[str, Any], listener: socket.socket, network: int) -> int:
    """Let the container live once; return what systemd-nspawn ended with, minus the signal that killed it.

    Args:
        network: The namespace of this computer's own.
    """
    watch = Watch()
    devices = [tap(**nic) for nic in told["nics"]]
    cables = [Cable(watch, device, told["switch"]) for device in devices]
    lines: list[Line] = []

    def answer(events: int) -> None:
        lines[:] = [line for line in lines if line.is_open]
        try:
            outside, _ = listener.accept()
        except OSError:
            return  # it has gone again
        inside = socket.socket()
        inside.setblocking(False)
        inside.connect_ex(("127.0.0.1", 22))  # if nobody listens there, the line breaks
        lines.append(Line(watch, outside, inside))

    doors = [_door(watch, door, network, lines) for door in told["mirrors"]]
    container = _start(told["start"], told["console"])
    signal.signal(signal.SIGTERM, lambda *_: _press_power_button(container))
    ended = os.pidfd_open(container.pid)
    watch.set(listener, selectors.EVENT_READ, answer)
    watch.set(ended, selectors.EVENT_READ, lambda events: None)
    Path(told["powered"]).write_text(str(os.getpid()))
    while container.poll() is None:
        watch.turn()
    for cable in cables:
        cable.close()
    for line in lines:
        line.close()
    for door in doors:
        watch.set(door, 0, lambda events: None)
        door.close()
    os.close(ended)
    watch.close()
    return container.returncode


def _door(watch: Watch, told: dict[str, Any], network: int, lines: list[Line]) -> socket.socket:
    """Return what listens inside in a mirror's place, and leads whoever comes to the mirror outside."""
    door = socket.socket()
    door.setblocking(False)
    door.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    door.setsockopt(socket.SOL_IP, _IP_FREEBIND, 1)
    door.bind((told["address"], told["port"]))
    door.listen(64)

    def answer(events: int) -> None:
        try:
            inside, _ = door.accept()
        except OSError:
            return  # it has gone again
        try:
            lines.append(Line(watch, inside, _outside(network, told["host"], told["port"])))
        except OSError:
            inside.close()

    watch.set(door, selectors.EVENT_READ, answer)
    return door


def _outside(network: int, host: str, port: int) -> socket.socket:
    """Return a socket of *network* that is being connected; a socket stays where it was made."""
    with Path("/proc/self/ns/net").open() as own:
        namespaces.enter(network, namespaces.NETWORK)
        try:
            family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
            outside = socket.socket(family, kind, protocol)
        finally:
            namespaces.enter(own.fileno(), namespaces.NETWORK)
    outside.setblocking(False)
    outside.connect_ex(address)
    return outside


def _start(argv: list[str], console: str) -> "subprocess.Popen[bytes]":
    """Start the first process of the new namespaces, which dies with this one."""
    with Path(console).open("ab") as output:
        return subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=output, preexec_fn=_inside)  # noqa: PLW1509


def _inside() -> None:
    namespaces.unshare(namespaces.MOUNT)
    namespaces.die_with_parent(signal.SIGKILL)


def _press_power_button(container: "subprocess.Popen[bytes]") -> None:
    """Tell the container's own first process, a child of systemd-nspawn, to power off."""
    with contextlib.suppress(OSError):
        children = Path(f"/proc/{container.pid}/task/{container.pid}/children").read_text()
        for child in children.split():
            os.kill(int(child), POWER_BUTTON)


def _start_sweeper(group: Path, remains: int) -> "subprocess.Popen[bytes]":
    """Start what removes the control group after the end of this process, and holds *remains* as long."""
    argv = ["sh", "-c", _SWEEP, "sh", str(group)]
    quiet = subprocess.DEVNULL
    return subprocess.Popen(
        argv, stdin=subprocess.PIPE, stdout=quiet, stderr=quiet, pass_fds=[remains], start_new_session=True
    )


def _make_empty(group: Path) -> None:
    for directory, _, _ in os.walk(group, topdown=False):
        Path(directory).rmdir()
    group.mkdir()


def _is_cgroup2(path: str) -> bool:
    """Return whether *path* is where the whole of version 2 is mounted; on older computers it is one of its parts."""
    mounts = [line.split() for line in Path("/proc/self/mounts").read_text().splitlines()]
    return [filesystem for _, target, filesystem, *_ in mounts if target == path][-1:] == ["cgroup2"]


if __name__ == "__main__":
    try:
        sys.exit(main(json.loads(sys.argv[1])))
    except OSError as error:
        sys.exit(f"the chassis of a container failed: {error}")
