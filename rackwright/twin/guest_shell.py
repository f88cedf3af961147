"""How a fault reaches a host of a twin: its monitor, and a shell in it."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

from rackwright.errors import DeclarationError, StepFailed, command
from rackwright.twin.twin import Twin
from rackwright.twin.vm.machine import VirtualMachine
from rackwright.twin.vm.qmp import Monitor, monitor

DRIVE_WITH_SERIAL = """\
drive_with_serial() {
    for path in /sys/block/*/serial /sys/block/*/device/serial /sys/block/*/device/vpd_pg80; do
        [ -r "$path" ] || continue
        case $path in *vpd_pg80) skip=5 ;; *) skip=1 ;; esac
        name=${path#/sys/block/}
        [ "$(tail -c +$skip "$path" | tr -d '\\0' | sed 's/^ *//; s/ *$//')" = "$1" ] && echo "${name%%/*}" && return
    done
    return 1
}
"""
"""In sh: the kernel's name of the drive with a serial, from the place each bus has for it."""


def virtual_machine(twin: Twin, host: str, what: str) -> VirtualMachine:
    """Return *host*, which needs *what* of its own for a fault.

    Raises:
        DeclarationError: It is a container.
    """
    machine = twin.machine(host)
    if not isinstance(machine, VirtualMachine):
        raise DeclarationError(
            host,
            "got a container",
            f"only a virtual machine has {what} of its own",
            f"Name one, or take {host} out of rackwright:containers",
        )
    return machine


def need_power(twin: Twin, host: str) -> None:
    twin.machine(host)
    if not twin.is_on(host):
        raise StepFailed(
            host,
            "it is off",
            "this is done to a running machine",
            f"Run {command('rackwright twin fault power-on {}', host)}",
        )


@contextmanager
def monitored(twin: Twin, host: str, what: str) -> Iterator[Monitor]:
    """Connect to the monitor of a host that is on, and has *what* of its own."""
    virtual_machine(twin, host, what)
    need_power(twin, host)
    with monitor(twin.layout.monitor_socket(host), host) as qemu:
        yield qemu


def in_guest(twin: Twin, host: str, script: str, about: str, *arguments: str) -> None:
    """Run *script* as root in the guest: it ends well when the effect is seen there.

    Raises:
        StepFailed: It does not; *about* says of what.
    """
    quoted = (f"'{argument}'" for argument in arguments)
    argv = twin.ssh(host, "sudo", "-n", "sh", "-s", "--", *quoted)
    run = subprocess.run(argv, check=False, input=script, capture_output=True, text=True)
    if run.returncode:
        raise StepFailed(
            f"{host}: {about}",
            f"the guest did not follow: {(run.stderr or run.stdout).strip() or 'it sees no change'}",
            "a guest sees what happens to it",
            "Look at the guest's `dmesg`; a restart of the guest shows it in any case",
        )
