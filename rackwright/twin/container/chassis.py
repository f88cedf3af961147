"""The chassis process of one container: `python -m rackwright.twin.container.chassis JSON`.

The chassis makes a network with the declared NICs and starts the container inside. It relays SSH from a port of this
computer, frames to the twin's switch, and requests to the mirrors that the stack lends. The chassis lives exactly as
long as the container: if a signal kills the chassis, the kernel kills all processes of the container. Only the control
group would remain; a small shell, which outlives both for a moment, removes it.
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
from rackwright.twin.container.cable import Cable, EventLoop, Relay, create_tap

CGROUPS = Path("/sys/fs/cgroup")
REBOOT = 133
"""Exit status of systemd-nspawn when the container reboots. Source: systemd-nspawn(1), --keep-unit."""
POWER_BUTTON = signal.SIGRTMIN + 4
"""Signal at which systemd powers off. Source: systemd(1)."""

_IP_FREEBIND = 15
"""Socket option that binds an address before its interface is up. Source: linux/in.h."""

_SWEEP = """\
read -r _
echo 1 > "$1/cgroup.kill"
tries=0
until find "$1" -depth -type d -exec rmdir {} + || [ $((tries += 1)) -gt 200 ]; do sleep 0.05; done
"""
"""Shell script that waits for the end of standard input, then kills and removes a control group within ten seconds."""


def main(config: dict[str, Any]) -> int:
    """Run the chassis that *config* describes, see `container.command_line`; return the container's exit status."""
    signal.signal(signal.SIGUSR1, lambda *_: None)  # the container may be starting; `_run` reads the file then
    remains = os.open(config["remains"], os.O_RDWR | os.O_CREAT, 0o600)
    fcntl.flock(remains, fcntl.LOCK_EX)  # waits until the last start of this container is cleaned up
    group = CGROUPS / config["cgroup"]
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.setblocking(False)
        listener.bind(("127.0.0.1", config["port"]))
        listener.listen(64)
        outside = {kind: os.open(f"/proc/self/ns/{name}", os.O_RDONLY) for kind, name in _NAMESPACE_FILES.items()}
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
            status = _run(config, listener, outside[namespaces.NETWORK])
    sweeper.communicate()
    return status


_NAMESPACE_FILES = {namespaces.NETWORK: "net", namespaces.PROCESSES: "pid"}


def _run(config: dict[str, Any], listener: socket.socket, network: int) -> int:
    """Run the container until it ends; return the exit status of systemd-nspawn, or minus the signal that killed it.

    Args:
        network: This computer's own network namespace.
    """
    loop = EventLoop()
    devices = [create_tap(**nic) for nic in config["nics"]]
    cables = [Cable(loop, device, config["switch"]) for device in devices]
    relays: list[Relay] = []

    def answer(events: int) -> None:
        relays[:] = [relay for relay in relays if relay.is_open]
        try:
            outside, _ = listener.accept()
        except OSError:
            return  # it has gone again
        inside = socket.socket()
        inside.setblocking(False)
        inside.connect_ex(("127.0.0.1", 22))  # if no server listens there, the relay breaks
        relays.append(Relay(loop, outside, inside))

    listeners = [_listen_for_mirror(loop, proxy, network, relays) for proxy in config["mirrors"]]
    changed = os.eventfd(1, os.EFD_NONBLOCK)

    def follow_cables(events: int) -> None:
        """Pull all cables out, or put them back, as the file of the pulled cables says."""
        os.eventfd_read(changed)
        out = Path(config["no_cables"]).exists()
        for cable in cables:
            cable.pull() if out else cable.plug_in()
        loop.set(listener, 0 if out else selectors.EVENT_READ, answer)
        for relay in relays if out else ():
            relay.close()

    signal.signal(signal.SIGUSR1, lambda *_: os.eventfd_write(changed, 1))
    loop.set(changed, selectors.EVENT_READ, follow_cables)
    container = _start(config["start"], config["console"])
    signal.signal(signal.SIGTERM, lambda *_: _press_power_button(container))
    exit_event = os.pidfd_open(container.pid)
    loop.set(exit_event, selectors.EVENT_READ, lambda events: None)
    Path(config["powered"]).write_text(str(os.getpid()))
    while container.poll() is None:
        loop.run_once()
    for cable in cables:
        cable.close()
    for relay in relays:
        relay.close()
    for mirror_listener in listeners:
        loop.set(mirror_listener, 0, lambda events: None)
        mirror_listener.close()
    signal.signal(signal.SIGUSR1, lambda *_: None)
    for event in (exit_event, changed):
        os.close(event)
    loop.close()
    return container.returncode


def _listen_for_mirror(loop: EventLoop, proxy: dict[str, Any], network: int, relays: list[Relay]) -> socket.socket:
    """Return a socket that listens inside at the address of *proxy*, and relays clients to the mirror outside."""
    listener = socket.socket()
    listener.setblocking(False)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.setsockopt(socket.SOL_IP, _IP_FREEBIND, 1)
    listener.bind((proxy["address"], proxy["port"]))
    listener.listen(64)

    def answer(events: int) -> None:
        try:
            inside, _ = listener.accept()
        except OSError:
            return  # it has gone again
        try:
            relays.append(Relay(loop, inside, _connect_outside(network, proxy["host"], proxy["port"])))
        except OSError:
            inside.close()

    loop.set(listener, selectors.EVENT_READ, answer)
    return listener


def _connect_outside(network: int, host: str, port: int) -> socket.socket:
    """Return a socket that connects in the namespace *network*: a socket stays in the namespace that made it."""
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
    """Start the first process of the new namespaces, which dies with this process."""
    with Path(console).open("ab") as output:
        return subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=output, preexec_fn=_prepare_child)  # noqa: PLW1509


def _prepare_child() -> None:
    namespaces.unshare(namespaces.MOUNT)
    namespaces.die_with_parent(signal.SIGKILL)


def _press_power_button(container: "subprocess.Popen[bytes]") -> None:
    """Send the power-off signal to the container's first process, a child of systemd-nspawn."""
    with contextlib.suppress(OSError):
        children = Path(f"/proc/{container.pid}/task/{container.pid}/children").read_text()
        for child in children.split():
            os.kill(int(child), POWER_BUTTON)


def _start_sweeper(group: Path, remains: int) -> "subprocess.Popen[bytes]":
    """Start the shell that removes the control group after this process ends; it holds *remains* until then."""
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
    """Return whether cgroup version 2 is mounted at *path* itself; older computers mount it in a folder below."""
    mounts = [line.split() for line in Path("/proc/self/mounts").read_text().splitlines()]
    return [filesystem for _, target, filesystem, *_ in mounts if target == path][-1:] == ["cgroup2"]


if __name__ == "__main__":
    try:
        sys.exit(main(json.loads(sys.argv[1])))
    except OSError as error:
        sys.exit(f"the chassis of a container failed: {error}")
