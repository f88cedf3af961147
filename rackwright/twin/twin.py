"""A twin: the machines of a rack on this computer, started, stopped and looked at."""

import fcntl
import json
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO

from rackwright.errors import DeclarationError, HostUnreachable, SetupError, StepFailed
from rackwright.twin import accelerator, identity, image
from rackwright.twin.control import Child, Control
from rackwright.twin.files import write
from rackwright.twin.layout import Layout
from rackwright.twin.machine import Accelerator, VirtualMachine, check, command_line
from rackwright.twin.qmp import monitor
from rackwright.twin.settings import Settings

Say = Callable[[str], None]

SWITCH = "twin/switch"
"""Name of the switch among the supervised processes; no host has a slash in its name."""
START_SECONDS = 600
"""After which a machine that has not answered is given up: forty times what an idle computer takes."""
STOP_SECONDS = 60
"""What a guest may take to shut down before its power is cut."""


@dataclass(frozen=True, slots=True)
class MachineStatus:
    """What is known of one machine from outside."""

    name: str
    power: bool
    answers: bool
    """Its SSH server said its greeting."""
    port: int | None
    process: int | None
    pulled: tuple[str, ...]
    """Serial numbers of the drives that are out of their places."""
    changed: bool
    """It was declared otherwise when it was started."""


class Twin:
    """The machines in *directory*. An object holds nothing but paths: any process may look and act."""

    def __init__(self, directory: Path, machines: Sequence[VirtualMachine]) -> None:
        self.layout = Layout(directory.resolve())
        self.machines = {machine.name: machine for machine in machines}
        self.control = Control(self.layout)

    def machine(self, host: str) -> VirtualMachine:
        """Return the machine named *host*."""
        if host not in self.machines:
            raise DeclarationError(
                f"twin {self.layout.directory.name}",
                f"no host {host}",
                f"its hosts are {', '.join(self.machines) or 'none'}",
                "Name one of these",
            )
        return self.machines[host]

    # --- whole twin

    def start(self, say: Say) -> None:
        """Start what is off, leave alone what runs, and return when all machines answer SSH."""
        self._power_on(list(self.machines.values()), say)
        self.wait(say)

    def stop(self, say: Say, grace_seconds: float = STOP_SECONDS) -> None:
        """Shut all guests down, end what is left after *grace_seconds*, and keep their disks."""
        with self._changing(say):
            started = pressed = time.monotonic()
            while (left := sorted(self._running().keys() - {SWITCH})) and time.monotonic() - started < grace_seconds:
                if time.monotonic() >= pressed:  # again and again: a guest that is just starting does not hear it
                    for name in left:
                        self._press_power_button(name)
                    pressed = time.monotonic() + 5
                time.sleep(0.2)
            for name in left if grace_seconds else ():
                say(f"{name}: has not shut down in {grace_seconds:.0f} s, its power is cut")
            self.control.quit()

    def reset(self, say: Say) -> None:
        """Stop at once and delete all disks: at the next start every machine is new, with the same identity."""
        self.stop(say, grace_seconds=0)
        with self._changing(say):
            shutil.rmtree(self.layout.disks, ignore_errors=True)
            for host in self.layout.hosts():
                self.settings(host).update(image=None, pulled=[])

    def wait(self, say: Say, hosts: Sequence[str] | None = None, seconds: float = START_SECONDS) -> None:
        """Return once *hosts*, or all, answer SSH.

        Raises:
            StepFailed: One of them ended.
            HostUnreachable: One has not answered within *seconds*.
        """
        waiting = list(self.machines if hosts is None else hosts)
        started = said = time.monotonic()
        while waiting:
            with ThreadPoolExecutor(len(waiting)) as pool:
                answers = list(pool.map(self.answers, waiting))
            now = time.monotonic()
            for host, ready in zip(list(waiting), answers, strict=True):
                if ready:
                    say(f"{host}: ready, {now - started:.0f} s")
                    waiting.remove(host)
            running = self._running()
            for host in waiting:
                if host not in running:
                    raise self._ended(host)
            if waiting and now - started > seconds:
                raise HostUnreachable(
                    waiting[0],
                    f"no SSH after {seconds:.0f} s",
                    "a guest answers when it is up",
                    f"Read its console: {self.layout.console(waiting[0])}",
                )
            if waiting and now - said > 5:
                said = now
                say(f"{', '.join(waiting)}: waiting for ssh, {now - started:.0f} s")

    def status(self) -> list[MachineStatus]:
        """Return what is known of each machine, without changing anything."""
        running = self._running()
        with ThreadPoolExecutor(max(1, len(self.machines))) as pool:
            answers = list(pool.map(lambda host: host in running and self.answers(host), self.machines))
        return [
            MachineStatus(
                name=machine.name,
                power=machine.name in running,
                answers=ready,
                port=self.settings(machine.name).port,
                process=running[machine.name].pid if machine.name in running else None,
                pulled=tuple(self.settings(machine.name).pulled),
                changed=machine.name in running and running[machine.name].note != _definition(machine),
            )
            for machine, ready in zip(self.machines.values(), answers, strict=True)
        ]

    # --- one machine

    def power_on(self, host: str, say: Say) -> None:
        """Start one machine and return when it answers SSH."""
        self._power_on([self.machine(host)], say)
        self.wait(say, [host])

    def settings(self, host: str) -> Settings:
        return Settings(self.layout.settings(host))

    def is_on(self, host: str) -> bool:
        return host in self._running()

    def answers(self, host: str) -> bool:
        """Say whether the guest's SSH server greets; that the port is open says nothing, QEMU itself opens it."""
        port = self.settings(host).port
        if port is None:
            return False
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=2) as connection:
                return connection.recv(4) == b"SSH-"
        except OSError:
            time.sleep(0.1)  # a port that is closed answers at once
            return False

    def ssh(self, host: str, *command: str) -> list[str]:
        """Return the command line that logs in to *host*, or runs *command* there."""
        self.machine(host)
        return [
            *("ssh", "-F", "none", "-i", str(self.layout.key), "-p", str(self.settings(host).port)),
            *("-o", "IdentitiesOnly=yes", "-o", "BatchMode=yes", "-o", "ConnectTimeout=30", "-o", "LogLevel=ERROR"),
            *("-o", f"UserKnownHostsFile={self.layout.known_hosts}", "-o", "StrictHostKeyChecking=yes"),
            f"{identity.USER}@127.0.0.1",
            *command,
        ]

    def console(self, host: str) -> Path:
        """Return the file that *host* writes its console to."""
        self.machine(host)
        return self.layout.console(host)

    # --- inside

    @contextmanager
    def _changing(self, say: Say) -> Iterator[IO[bytes]]:
        """Hold the twin's lock: commands that change it come one after the other."""
        self.layout.directory.mkdir(parents=True, exist_ok=True)
        with self.layout.command_lock.open("ab") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                say(f"waiting for another command on this twin (lock {self.layout.command_lock})")
                fcntl.flock(lock, fcntl.LOCK_EX)
            yield lock

    def _running(self) -> dict[str, Child]:
        return {name: child for name, child in self.control.children().items() if child.status is None}

    def _start_switch(self) -> None:
        if SWITCH in self._running() or not any(machine.nics for machine in self.machines.values()):
            return
        argv = [sys.executable, "-P", "-m", "rackwright.twin.switch", str(self.layout.switch_socket)]
        self.layout.switch_socket.unlink(missing_ok=True)
        self.control.run(SWITCH, argv, self.layout.supervisor_log)
        while not self.layout.switch_socket.exists():
            if SWITCH not in self._running():
                raise StepFailed(
                    "twin's switch", "it ended", "it connects the machines", f"Read {self.layout.supervisor_log}"
                )
            time.sleep(0.02)

    def _power_on(self, machines: Sequence[VirtualMachine], say: Say) -> None:
        for machine in machines:
            check(machine)
        image.require("qemu-system-x86_64", "qemu-img")
        with self._changing(say) as lock:
            running = self._running()
            for machine in machines:
                if machine.name in running and running[machine.name].note != _definition(machine):
                    say(f"{machine.name}: runs as it was declared before; stop and start the twin to change it")
            off = [machine for machine in machines if machine.name not in running]
            systems = [self._make_disks(machine, say) for machine in off]
            mode = accelerator.accelerator(systems[0], say) if systems else "tcg"
            self.control.ensure(lock)
            self._start_switch()
            for machine, system in zip(off, systems, strict=True):
                self._run(machine, system, mode, say)
            self._write_endpoints()

    def _run(self, machine: VirtualMachine, system: image.Image, mode: Accelerator, say: Say) -> None:
        """Start QEMU for *machine*, on the port it had before if that is free."""
        host, layout, settings = machine.name, self.layout, self.settings(machine.name)
        identity.write_seed(machine, layout)
        for attempt in range(10):
            port = settings.port if attempt == 0 and settings.port and _is_free(settings.port) else _free_port()
            settings.update(port=port)
            argv = command_line(machine, layout, system.directory, mode, port, frozenset(settings.pulled))
            layout.log(host).unlink(missing_ok=True)
            layout.monitor_socket(host).unlink(missing_ok=True)
            self.control.run(host, argv, layout.log(host), _definition(machine))
            if self._came_up(host):
                say(f"{host}: started, ssh on port {port}")
                return
            if "host forwarding" not in layout.log(host).read_text():
                break  # otherwise somebody else took the port in between
        raise self._ended(host)

    def _came_up(self, host: str) -> bool:
        """Wait until QEMU of *host* listens to its monitor, or has ended."""
        while self.is_on(host):
            try:
                with monitor(self.layout.monitor_socket(host), host):
                    return True
            except (OSError, StepFailed):
                time.sleep(0.05)
        return False

    def _make_disks(self, machine: VirtualMachine, say: Say) -> image.Image:
        """Make the disks that are missing, and return the image under the boot drive: its kernel belongs to it."""
        settings, boot = self.settings(machine.name), machine.boot_drive
        overlay = self.layout.boot_disk(machine.name, boot.serial)
        overlay.parent.mkdir(parents=True, exist_ok=True)
        for drive in machine.data_drives:
            disk = self.layout.disk(machine.name, drive.serial)
            if not disk.exists():  # one that is there keeps its size, and so what is on it
                with disk.open("wb") as file:
                    file.truncate(drive.size_bytes)
        if overlay.exists() and settings.image:
            system = image.Image(Path(settings.image))
            if not system.root.exists():
                raise SetupError(
                    machine.name,
                    f"its boot drive was made over {system.directory}, which is gone",
                    "a boot drive holds only what differs from its image",
                    "Run `rackwright twin reset`",
                )
            if system != image.image(machine.os):
                say(f"{machine.name}: keeps the system it has; `rackwright twin reset` gives it the new image")
            return system
        system = image.prepare(machine.os, say)
        size = max(boot.size_bytes, system.root.stat().st_size)
        argv = ["qemu-img", "create", "-q", "-f", "qcow2", "-F", "raw", "-b", str(system.root), str(overlay), str(size)]
        subprocess.run(argv, check=True)
        settings.update(image=str(system.directory))
        return system

    def _press_power_button(self, host: str) -> None:
        try:
            with monitor(self.layout.monitor_socket(host), host) as qemu:
                qemu.execute("system_powerdown")
        except (OSError, StepFailed):
            pass  # it may end by itself just now; the wait that follows finds out

    def _write_endpoints(self) -> None:
        hosts, pins = {}, ""
        for host in self.machines:
            if (port := self.settings(host).port) is not None:
                hosts[host] = {"address": "127.0.0.1", "port": port, "user": identity.USER, "key": str(self.layout.key)}
                pins += identity.known_hosts_line(port, identity.ensure_key(self.layout.host_key(host), host))
        write(self.layout.known_hosts, pins.encode())
        write(self.layout.endpoints, json.dumps({"hosts": hosts}, indent=2).encode() + b"\n")

    def _ended(self, host: str) -> StepFailed:
        log = self.layout.log(host)
        said = log.read_text(errors="replace").strip().splitlines()[-3:] if log.exists() else []
        return StepFailed(
            host,
            f"its QEMU ended: {' '.join(said) or 'it said nothing'}",
            "a machine runs until it is stopped",
            f"Read {log} and {self.layout.console(host)}",
        )


def _definition(machine: VirtualMachine) -> str:
    return json.dumps(asdict(machine), sort_keys=True)


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as QEMU does: closed connections may linger
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
