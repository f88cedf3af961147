"""The two ways to act on a host of a twin: its QEMU monitor, and a shell in the guest."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

from rackwright.errors import DeclarationError, Diagnostic, StepFailed, command
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
"""Shell function that prints the kernel's name of the drive with a serial, for each bus."""


def virtual_machine(twin: Twin, host: str, part: str) -> VirtualMachine:
    """Return *host*, whose own *part* a fault affects.

    Raises:
        DeclarationError: The host is a container.
    """
    machine = twin.machine(host)
    if not isinstance(machine, VirtualMachine):
        raise DeclarationError(
            Diagnostic(
                host,
                f"the host is a container, and only a virtual machine has {part} of its own",
                "a virtual machine",
                f"Name a virtual machine, or remove {host} from rackwright:containers",
            )
        )
    return machine


def require_power(twin: Twin, host: str) -> None:
    """Raise StepFailed if *host* is off."""
    twin.machine(host)
    if not twin.is_on(host):
        raise StepFailed(
            Diagnostic(
                host,
                "the machine is off",
                "a running machine",
                f"Run {command('rackwright twin fault power-on {}', host)}",
            )
        )


@contextmanager
def open_host_monitor(twin: Twin, host: str, part: str) -> Iterator[Monitor]:
    """Connect to the monitor of a host that is on and has its own *part*."""
    virtual_machine(twin, host, part)
    require_power(twin, host)
    with monitor(twin.layout.monitor_socket(host), host) as qemu:
        yield qemu


def run_in_guest(twin: Twin, host: str, script: str, subject: str, *arguments: str) -> None:
    """Run *script* as root in the guest. The script succeeds when the guest sees the effect.

    Args:
        subject: The affected part, for the error.

    Raises:
        StepFailed: The script fails.
    """
    quoted = (f"'{argument}'" for argument in arguments)
    argv = twin.ssh(host, "sudo", "-n", "sh", "-s", "--", *quoted)
    run = subprocess.run(argv, check=False, input=script, capture_output=True, text=True)
    if run.returncode:
        raise StepFailed(
            Diagnostic(
                f"{host}: {subject}",
                f"the guest does not see the fault: {(run.stderr or run.stdout).strip() or 'it sees no change'}",
                help="Read the guest's `dmesg`, or restart the guest, which then sees the fault",
            )
        )
