"""A twin: start, stop and status of the machines of a rack on this computer."""

import fcntl
import json
import re
import shutil
import socket
import sys
import time
from collections.abc import Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import IO, Any

from rackwright.errors import DeclarationError, Diagnostic, HostUnreachable, SetupError, StepFailed, command
from rackwright.files import write_atomic
from rackwright.progress import Progress
from rackwright.twin import identity
from rackwright.twin.backend import Backend
from rackwright.twin.container.backend import Containers
from rackwright.twin.container.container import Container
from rackwright.twin.control import Child, Control
from rackwright.twin.gpu import library, plug
from rackwright.twin.layout import Layout
from rackwright.twin.settings import TwinSettings
from rackwright.twin.vm.backend import VirtualMachines
from rackwright.twin.vm.machine import VirtualMachine
from rackwright.twin.vm.qmp import monitor

SWITCH = "twin/switch"
"""Name of the switch among the supervised processes. Names of hosts have no slash; all other names have one."""
START_SECONDS = 600
"""Seconds that a machine may take until it answers SSH: forty times the start on an idle computer."""
HANG_SECONDS = 300
"""Seconds after which a virtual machine that was just started, and writes nothing to its console, is reset once: it may
hang at its start. A slow one goes on writing."""
GREETING_SECONDS = 2
"""Seconds that a connection waits for the greeting of an SSH server, at first."""
STOP_SECONDS = 60
"""Seconds that a guest may take to shut down before its power is cut."""
PARALLEL_STARTS = 8
"""Number of hosts that start at the same time; each mostly waits for its first process."""


@dataclass(frozen=True, slots=True)
class MachineStatus:
    """The status of one machine, as seen from outside."""

    name: str
    """Name of the host."""
    backend: str
    """Name of the backend: `vm` or `container`."""
    power: bool
    """Whether the machine is on."""
    answers: bool
    """Whether the SSH server has sent its greeting."""
    port: int | None
    """Port of its SSH server on this computer; None before its first start."""
    process: int | None
    """Id of its process on this computer; None if it is off."""
    pulled: tuple[str, ...]
    """Serial numbers of the drives that are pulled out of their places."""
    changed: bool
    """Whether the declaration has changed since the machine started."""


@dataclass
class _Console:
    """How much a machine has written to its console, and when that last changed."""

    changed: float
    size: int = 0

    def measure_silence(self, file: Path, now: float) -> float:
        """Return the seconds since *file* last grew."""
        size = file.stat().st_size if file.exists() else 0
        if size != self.size:
            self.size, self.changed = size, now
        return now - self.changed


class Twin:
    """The machines in *directory*. An object holds nothing but paths, so any process may use the same twin."""

    def __init__(self, directory: Path, machines: Sequence[VirtualMachine | Container]) -> None:
        self.layout = Layout(directory.resolve())
        self.machines = {machine.name: machine for machine in machines}
        self.control = Control(self.layout)
        self._backends: dict[str, Backend[Any]] = {
            VirtualMachine.backend: VirtualMachines(self.layout),
            Container.backend: Containers(self.layout, self.control),
        }

    def machine(self, host: str) -> VirtualMachine | Container:
        """Return the machine named *host*."""
        if host not in self.machines:
            raise DeclarationError(
                Diagnostic(
                    f"twin {self.layout.directory.name}",
                    f"the twin has no host {host}",
                    f"one of {', '.join(self.machines)}" if self.machines else "",
                    "Correct the name",
                )
            )
        return self.machines[host]

    # --- whole twin

    def start(self, progress: Progress) -> None:
        """Start the machines that are off, and return when all machines answer SSH. Running machines do not change."""
        self._start(list(self.machines.values()), progress)

    def stop(self, progress: Progress, grace_seconds: float = STOP_SECONDS) -> None:
        """Shut all guests down, and cut the power of the rest after *grace_seconds*. The disks stay."""
        with self._lock(progress):
            started = pressed = time.monotonic()
            while (remaining := self._hosts_on()) and time.monotonic() - started < grace_seconds:
                if time.monotonic() >= pressed:  # repeated, since a guest that is just starting ignores it
                    for name in remaining:
                        self._backend_of(name).press_power_button(name)
                    pressed = time.monotonic() + 5
                time.sleep(0.2)
            for name in remaining if grace_seconds else ():
                progress(f"{name}: did not shut down within {grace_seconds:.0f} s; its power is cut")
            self.control.quit()
            for host in self.layout.hosts():
                self._backend_of(host).wait_until_gone(host)

    def reset(self, progress: Progress, hosts: Sequence[str] = ()) -> None:
        """Stop *hosts* at once and delete their disks; without *hosts*, of all machines that were ever started here.

        At its next start each machine is new, with the same identity.
        """
        for host in hosts:
            self.power_off(host)
        if not hosts:
            self.stop(progress, grace_seconds=0)
        with self._lock(progress):
            for folder in map(self.layout.disks_of, hosts) if hosts else (self.layout.disks,):
                shutil.rmtree(folder, ignore_errors=True)
            for host in hosts or self.layout.hosts():
                self.settings(host).update(image=None, system=None, sources=None, pulled=[])

    def wait(
        self,
        progress: Progress,
        hosts: Sequence[str] | None = None,
        seconds: float = START_SECONDS,
        just_started: Collection[str] = (),
    ) -> None:
        """Return once *hosts*, or all hosts, answer SSH.

        Args:
            just_started: Hosts that were just switched on or reset, so that another reset ends no work. A virtual
                machine among them whose console is silent for HANG_SECONDS is reset once, and the file of its console
                says where its processors were.

        Raises:
            StepFailed: A host ended.
            HostUnreachable: A host has not answered within *seconds*.
        """
        waiting = list(self.machines if hosts is None else hosts)
        started = last_report = time.monotonic()
        consoles = {host: _Console(started) for host in just_started if self.machine(host).backend == "vm"}
        while waiting:
            # QEMU keeps connections that were given up. All of them reach the guest once it listens, and with more than
            # ten its SSH server refuses logins: a slow guest gets fewer.
            patience = max(GREETING_SECONDS, (time.monotonic() - started) / 4)
            with ThreadPoolExecutor(len(waiting)) as pool:
                answers = list(pool.map(partial(self.answers_ssh, seconds=patience), waiting))
            now = time.monotonic()
            for host, ready in zip(list(waiting), answers, strict=True):
                if ready:
                    progress(f"{host}: ready, {now - started:.0f} s")
                    waiting.remove(host)
            running = self._running_children()
            for host in waiting:
                if host not in running:
                    raise self._exit_error(host)
            if waiting and now - started > seconds:
                silent = "guest does" if len(waiting) == 1 else "guests do"
                raise HostUnreachable(
                    Diagnostic(
                        ", ".join(waiting),
                        f"the {silent} not answer SSH after {seconds:.0f} s",
                        help=f"Read {' and '.join(str(self.layout.console(host)) for host in waiting)}",
                        note="the machines keep running",
                        id="guest-silent",
                    )
                )
            for host in consoles.keys() & {*waiting}:
                silence = consoles[host].measure_silence(self.layout.console(host), now)
                if silence > HANG_SECONDS:
                    del consoles[host]
                    progress(f"{host}: silent for {silence:.0f} s; it is reset once")
                    self._reset_silent(host)
            if waiting and now - last_report > 5:
                last_report = now
                progress(f"{', '.join(waiting)}: waiting for ssh, {now - started:.0f} s")

    def status(self) -> list[MachineStatus]:
        """Return the status of each machine. Read-only."""
        running = self._running_children()
        with ThreadPoolExecutor(max(1, len(self.machines))) as pool:
            answers = list(pool.map(lambda host: host in running and self.answers_ssh(host), self.machines))
        return [
            MachineStatus(
                name=machine.name,
                backend=machine.backend,
                power=machine.name in running,
                answers=ready,
                port=self.settings(machine.name).port,
                process=running[machine.name].pid if machine.name in running else None,
                pulled=tuple(self.settings(machine.name).pulled_drives),
                changed=machine.name in running and running[machine.name].note != _definition(machine),
            )
            for machine, ready in zip(self.machines.values(), answers, strict=True)
        ]

    # --- one machine

    def power_on(self, host: str, progress: Progress) -> None:
        """Start one machine and return when it answers SSH."""
        self._start([self.machine(host)], progress)

    def power_off(self, host: str) -> None:
        """Cut the power of one machine, and return when no process of it runs."""
        self.machine(host)
        self.control.kill(host)
        for name in self._running_children():
            if name.startswith(f"{host}/"):
                self.control.kill(name)
        self._backend_of(host).wait_until_gone(host)

    def reset_hard(self, host: str, progress: Progress) -> None:
        """Press the reset button of one machine that is on, and return when it answers SSH again."""
        self._backend_of(host).press_reset_button(host)
        self._start([self.machine(host)], progress, just_reset=[host])

    def set_cables(self, host: str, plugged: bool) -> None:
        """Put all network cables of a machine that is on into their ports, or pull them out, that of SSH too."""
        machine, file = self.machine(host), self.layout.no_cables(host)
        file.unlink(missing_ok=True) if plugged else file.touch()
        self._backend_of(host).show_cables(machine)

    def settings(self, host: str) -> TwinSettings:
        return TwinSettings(self.layout.settings(host))

    def is_on(self, host: str) -> bool:
        return host in self._running_children()

    def answers_ssh(self, host: str, seconds: float = GREETING_SECONDS) -> bool:
        """Return whether the guest's SSH server sends its greeting within *seconds*.

        The port alone opens before the guest starts.
        """
        port = self.settings(host).port
        if port is None:
            return False
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=seconds) as connection:
                if connection.recv(4) == b"SSH-":
                    return True
        except OSError:
            pass
        time.sleep(0.1)  # a closed port refuses at once
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
    def _lock(self, progress: Progress) -> Iterator[IO[bytes]]:
        """Hold the twin's lock for the block, so that commands change the twin one after the other."""
        self.layout.directory.mkdir(parents=True, exist_ok=True)
        with self.layout.command_lock.open("ab") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                progress(f"waiting for another command on this twin (lock {self.layout.command_lock})")
                fcntl.flock(lock, fcntl.LOCK_EX)
            yield lock

    def _running_children(self) -> dict[str, Child]:
        return {name: child for name, child in self.control.children().items() if child.status is None}

    @property
    def is_off(self) -> bool:
        """Whether no machine is on, whatever the machines are."""
        return not self._hosts_on()

    def _hosts_on(self) -> list[str]:
        return sorted(name for name in self._running_children() if "/" not in name)

    def _start_switch(self) -> None:
        if SWITCH in self._running_children() or not any(machine.nics for machine in self.machines.values()):
            return
        paths = (str(self.layout.switch_socket), str(self.layout.switch_limits))
        argv = [sys.executable, "-P", "-m", "rackwright.twin.switch", *paths]
        self.layout.switch_socket.unlink(missing_ok=True)
        self.control.run(SWITCH, argv, self.layout.supervisor_log)
        self._wait_for_socket(
            SWITCH, self.layout.switch_socket, self.layout.supervisor_log, "the switch connects the machines"
        )

    def _wait_for_socket(self, name: str, path: Path, log: Path, purpose: str) -> None:
        """Return once the process *name* has made its socket *path*."""
        while not path.exists():
            if name not in self._running_children():
                raise StepFailed(
                    Diagnostic(
                        name,
                        f"the process ended: {_log_tail(log) or 'its log is empty'}",
                        help=f"Read {log}",
                        note=purpose,
                    )
                )
            time.sleep(0.02)

    def _backend_of(self, host: str) -> Backend[Any]:
        """Return the backend that started *host*. The declaration may name another backend by now."""
        return self._backends[self.settings(host).backend]

    def _start(
        self,
        machines: Sequence[VirtualMachine | Container],
        progress: Progress,
        just_reset: Sequence[str] = (),
    ) -> None:
        """Start those of *machines* that are off, and return when all of them answer SSH and have their GPUs."""
        started = [*just_reset, *self._power_on(machines, progress)]
        self.wait(progress, [machine.name for machine in machines], just_started=started)
        self._plug_in_gpus(machines, progress)

    def _power_on(self, machines: Sequence[VirtualMachine | Container], progress: Progress) -> list[str]:
        """Start those of *machines* that are off, and return their names."""
        by_backend = {name: [machine for machine in machines if machine.backend == name] for name in self._backends}
        for name, group in by_backend.items():
            if group:
                self._backends[name].require(group)
        with self._lock(progress) as lock:
            running = self._running_children()
            for machine in machines:
                if notice := self._sources_notice(machine):
                    progress(notice)
                elif machine.name in running and running[machine.name].note != _definition(machine):
                    progress(
                        f"{machine.name}: runs with its previous declaration; stop and start the twin to change it"
                    )
                if machine.name in running and self.layout.no_cables(machine.name).exists():
                    progress(f"{machine.name}: its cables are back in their ports")
                    self.set_cables(machine.name, plugged=True)
            off = [machine for machine in machines if machine.name not in running]
            for machine in off:
                if not self.settings(machine.name).has_disks:
                    self.settings(machine.name).update(sources=list(machine.mirrors))
            for name, group in by_backend.items():
                self._backends[name].prepare([machine for machine in group if machine in off], progress)
            for machine in off:
                identity.write_seed(machine, self.layout)
            self.control.ensure(lock)
            self._start_switch()
            with ThreadPoolExecutor(PARALLEL_STARTS) as pool:
                list(pool.map(lambda machine: self._run(machine, progress), off))
            self._write_endpoints()
        return [machine.name for machine in off]

    def _sources_notice(self, machine: VirtualMachine | Container) -> str:
        """Return a notice if *machine* has disks with other package sources than declared; empty otherwise."""
        sources = self.settings(machine.name).sources
        if sources is None or sources == list(machine.mirrors):
            return ""
        reset = command("rackwright twin reset {}", self.layout.directory.name)
        return (
            f"{machine.name}: keeps its package sources, which the first boot writes;"
            f" {reset} deletes its disks, and the next start follows rackwright:mirrors"
        )

    def _run(self, machine: VirtualMachine | Container, progress: Progress) -> None:
        """Start *machine*, on its previous port if that is free."""
        host, log, settings = machine.name, self.layout.log(machine.name), self.settings(machine.name)
        backend = self._backends[machine.backend]
        for attempt in range(10):
            port = settings.port if attempt == 0 and settings.port and _is_free(settings.port) else _free_port()
            settings.update(port=port, backend=machine.backend)
            for file in (log, self.layout.no_cables(host)):
                file.unlink(missing_ok=True)
            for path, argv in backend.helper_commands(machine).items():
                name = f"{host}/{path.suffix[1:]}"
                self.control.kill(name)  # it remains if its machine failed to start
                path.unlink(missing_ok=True)
                self.control.run(name, argv, log)
                self._wait_for_socket(name, path, log, "a machine needs this process from its start")
            process = self.control.run(host, backend.command_line(machine, port), log, _definition(machine))
            while self.is_on(host):
                if backend.is_powered(host, process):
                    progress(f"{host}: started, ssh on port {port}")
                    return
                time.sleep(0.05)
            if _is_free(port):
                break  # otherwise another process took the port in between
        raise self._exit_error(host)

    def _reset_silent(self, host: str) -> None:
        """Press the reset button of a virtual machine, and add to its console where its processors were before."""
        with monitor(self.layout.monitor_socket(host), host) as qemu:
            registers = qemu.execute("human-monitor-command", {"command-line": "info registers -a"})
        with self.layout.console(host).open("a") as console:
            console.write(f"\nSilent, and reset. Its processors were at:\n{registers}\n")
        self._backend_of(host).press_reset_button(host)

    def _plug_in_gpus(self, machines: Sequence[VirtualMachine | Container], progress: Progress) -> None:
        """Install the GPUs of *machines*, which answer SSH. The GPUs are missing if the library cannot be compiled."""
        machines = [machine for machine in machines if machine.gpus]
        if not machines:
            return
        try:
            libraries = library.ensure(progress)
        except SetupError as error:
            progress(f"{', '.join(machine.name for machine in machines)}: without GPUs: {error}")
            return

        def plug_in(machine: VirtualMachine | Container) -> None:
            try:
                plug.plug_in(machine, libraries, self.ssh)
            except StepFailed as error:  # the host may refuse the twin's own user by now; it keeps its GPUs
                progress(str(error))

        with ThreadPoolExecutor(PARALLEL_STARTS) as pool:
            list(pool.map(plug_in, machines))

    def _write_endpoints(self) -> None:
        hosts, pins = {}, ""
        for host in self.machines:
            if (port := self.settings(host).port) is not None:
                hosts[host] = {"address": "127.0.0.1", "port": port, "user": identity.USER, "key": str(self.layout.key)}
                pins += identity.known_hosts_line(port, identity.ensure_key(self.layout.host_key(host), host))
        write_atomic(self.layout.known_hosts, pins.encode())
        write_atomic(self.layout.endpoints, json.dumps({"hosts": hosts}, indent=2).encode() + b"\n")

    def _exit_error(self, host: str) -> StepFailed:
        log, console = self.layout.log(host), self.layout.console(host)
        return StepFailed(
            Diagnostic(
                host,
                f"the machine ended: {_log_tail(log) or _log_tail(console) or 'its log is empty'}",
                help=f"Read {log} and {console}",
                id="machine-ended",
            )
        )


def _log_tail(log: Path) -> str:
    """Return the last three lines of *log*, without the colour codes of a console."""
    lines = log.read_text(errors="replace").strip().splitlines() if log.exists() else []
    return re.sub(r"\x1b\[[\d;]*m", "", " ".join(lines[-3:]))


def _definition(machine: VirtualMachine | Container) -> str:
    return json.dumps({"backend": machine.backend, **asdict(machine)}, sort_keys=True)


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as QEMU does: closed connections may remain
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
