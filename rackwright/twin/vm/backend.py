"""The backend for virtual machines: their disks, their QEMU process and their power."""

import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from rackwright.errors import Diagnostic, SetupError, StepFailed
from rackwright.progress import Progress
from rackwright.twin.image import require
from rackwright.twin.layout import Layout
from rackwright.twin.settings import TwinSettings
from rackwright.twin.vm import accelerator, image
from rackwright.twin.vm.machine import VirtualMachine, check, command_line, tpm_command_line
from rackwright.twin.vm.qmp import monitor


class VirtualMachines:
    """See `Backend`."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout

    def require(self, machines: Sequence[VirtualMachine]) -> None:
        for machine in machines:
            check(machine)
        require("qemu-system-x86_64", "qemu-img", *(["swtpm"] if any(machine.tpm for machine in machines) else []))

    def prepare(self, machines: Sequence[VirtualMachine], progress: Progress) -> None:
        images = [self._make_disks(machine, progress) for machine in machines]
        if images:
            accelerator.detect(images[0], progress)

    def helper_commands(self, machine: VirtualMachine) -> Mapping[Path, list[str]]:
        if not machine.tpm:
            return {}
        self._layout.tpm(machine.name).mkdir(mode=0o700, parents=True, exist_ok=True)
        return {self._layout.tpm_socket(machine.name): tpm_command_line(machine, self._layout)}

    def command_line(self, machine: VirtualMachine, port: int) -> list[str]:
        settings = self._settings(machine.name)
        boot = self._image(machine).directory
        pulled = frozenset(settings.pulled_drives)
        return command_line(machine, self._layout, boot, accelerator.accelerator(), port, pulled)

    def is_powered(self, host: str, process: int) -> bool:
        try:
            with monitor(self._layout.monitor_socket(host), host):
                return True
        except (OSError, StepFailed):
            return False

    def press_power_button(self, host: str) -> None:
        try:
            with monitor(self._layout.monitor_socket(host), host) as qemu:
                qemu.execute("system_powerdown")
        except (OSError, StepFailed):
            pass  # the guest may be ending by itself; the caller waits for it

    def press_reset_button(self, host: str) -> None:
        with monitor(self._layout.monitor_socket(host), host) as qemu:
            qemu.execute("system_reset")
            qemu.wait_for("RESET", 30)

    def show_cables(self, machine: VirtualMachine) -> None:
        up = not self._layout.no_cables(machine.name).exists()
        with monitor(self._layout.monitor_socket(machine.name), machine.name) as qemu:
            for name in ("management", *(f"nic{number}" for number in range(len(machine.nics)))):
                qemu.execute("set_link", {"name": name, "up": up})

    def wait_until_gone(self, host: str) -> None:
        """Return at once: a virtual machine is one process."""

    # --- inside

    def _settings(self, host: str) -> TwinSettings:
        return TwinSettings(self._layout.settings(host))

    def _image(self, machine: VirtualMachine) -> image.MachineImage:
        """Return the image below the boot drive of *machine*, which also has its kernel."""
        path = self._settings(machine.name).image
        return image.MachineImage(Path(path)) if path else image.image(machine.os)

    def _make_disks(self, machine: VirtualMachine, progress: Progress) -> image.MachineImage:
        """Make the missing disks, and return the image below the boot drive."""
        settings, boot = self._settings(machine.name), machine.boot_drive
        overlay = self._layout.boot_disk(machine.name, boot.serial)
        overlay.parent.mkdir(parents=True, exist_ok=True)
        for drive in machine.data_drives:
            disk = self._layout.disk(machine.name, drive.serial)
            if not disk.exists():  # an existing disk keeps its size and its data
                with disk.open("wb") as file:
                    file.truncate(drive.size_bytes)
        if overlay.exists() and settings.image:
            system = self._image(machine)
            if not system.root.exists():
                raise SetupError(
                    Diagnostic(
                        machine.name,
                        f"the image {system.directory} of its boot drive is missing",
                        help="Restore it; or, if the data of the twin may be lost, run `rackwright twin reset`",
                        note="a boot drive stores only its differences from its image",
                    )
                )
            if machine.tpm and not (system.directory / "vmlinuz").exists():
                raise SetupError(
                    Diagnostic(
                        machine.name,
                        f"the image {system.directory} of its boot drive has no vmlinuz",
                        "a newer image, from which a machine with a TPM can start",
                        "If the data of the twin may be lost, run `rackwright twin reset`",
                    )
                )
            if system != image.image(machine.os):
                progress(f"{machine.name}: keeps its system; `rackwright twin reset` gives it the new image")
            return system
        system = image.prepare(machine.os, progress)
        size = max(boot.size_bytes, system.root.stat().st_size)
        argv = ["qemu-img", "create", "-q", "-f", "qcow2", "-F", "raw", "-b", str(system.root), str(overlay), str(size)]
        subprocess.run(argv, check=True)
        settings.update(image=str(system.directory))
        return system
