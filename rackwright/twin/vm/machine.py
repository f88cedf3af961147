"""A virtual machine as plain data, and pure functions that return its QEMU command line."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

from rackwright.errors import DeclarationError, Diagnostic
from rackwright.twin.backend import VirtualNic
from rackwright.twin.layout import Layout

Accelerator = Literal["kvm", "tcg"]
Device = Mapping[str, Any]
"""A device as QEMU's options: `driver`, `id`, and the driver's properties."""

DRIVES_PER_HBA = 8
"""Number of targets that QEMU's mptsas1068 serves."""
SERIAL_LENGTH = {"nvme": 20, "virtio": 20, "sas": 36}
"""Characters of the longest serial number that QEMU's device of each bus carries."""
MANAGEMENT_MAC = "52:54:00:00:00:02"
"""MAC address of the management NIC, which only the twin uses. Each machine has its own management network."""

KERNEL_ARGUMENTS = (
    "root=/dev/vda rw console=ttyS0 quiet loglevel=3 systemd.show_status=0 net.ifnames=0 panic=30"
    # These features slow an emulated processor down, and the guests here are trusted.
    " mitigations=off nokaslr init_on_alloc=0 apparmor=0 selinux=0 nowatchdog cryptomgr.notests"
    " no_timer_check tsc=reliable 8250.nr_uarts=1 random.trust_cpu=on"
    # Seconds until the kernel drops a drive: on a busy computer an emulated drive is slower than any real one.
    " nvme_core.io_timeout=600 nvme_core.admin_timeout=600"
)


@dataclass(frozen=True, slots=True)
class VirtualDrive:
    """One disk, identified by its serial number."""

    serial: str
    bus: Literal["nvme", "sas", "virtio"]
    size_bytes: int
    boot: bool = False
    """Whether the drive has the operating system. The first boot drive is attached by virtio, regardless of its bus."""
    rotational: bool = False
    wwn: str | None = None
    """World Wide Name as hexadecimal digits. Only SAS drives show it."""

    @property
    def id(self) -> str:
        """Identifier of the drive in QEMU, which allows fewer characters than a serial number."""
        return f"drive-{hashlib.blake2s(self.serial.encode(), digest_size=8).hexdigest()}"


MEMORY_MIB = 768
"""Memory of a virtual machine without a role that needs more, in MiB."""


@dataclass(frozen=True, slots=True)
class VirtualMachine:
    """One host of the rack as a virtual machine."""

    backend: ClassVar = "vm"

    name: str
    serial: str
    """Serial number of the chassis, as its firmware reports it."""
    drives: tuple[VirtualDrive, ...]
    nics: tuple[VirtualNic, ...] = ()
    memory_mib: int = MEMORY_MIB
    processors: int = 1
    """Number of processors, at most 2."""
    os: Literal["debian-12"] = "debian-12"
    mirrors: tuple[str, ...] = ()
    uuid: str | None = None
    gpus: tuple[str, ...] = ()
    driver: str = ""
    tpm: bool = False
    """Whether the mainboard has a TPM 2.0."""

    @property
    def boot_drive(self) -> VirtualDrive:
        return next(drive for drive in self.drives if drive.boot)

    @property
    def data_drives(self) -> tuple[VirtualDrive, ...]:
        return tuple(drive for drive in self.drives if drive is not self.boot_drive)

    def drive(self, serial: str) -> VirtualDrive:
        """Return the data drive with this serial number.

        Raises:
            DeclarationError: The machine has no such drive, or it is the boot drive.
        """
        for drive in self.data_drives:
            if drive.serial == serial:
                return drive
        serials = ", ".join(sorted(drive.serial for drive in self.data_drives)) or "none"
        raise DeclarationError(
            Diagnostic(
                self.name,
                f"the machine has no data drive {serial}",
                f"one of {serials}",
                "Correct the serial",
            )
        )


def check(machine: VirtualMachine) -> None:
    """Raise DeclarationError when QEMU or the image cannot make *machine*."""
    if not any(drive.boot for drive in machine.drives):
        raise DeclarationError(
            Diagnostic(
                machine.name,
                "the machine has no boot drive",
                "one drive with `boot: true`",
                "Declare the drive with the operating system",
            )
        )
    for drive in machine.drives:
        limit = SERIAL_LENGTH["virtio" if drive is machine.boot_drive else drive.bus]
        if len(drive.serial) > limit or "/" in drive.serial or not drive.serial.isprintable():
            raise DeclarationError(
                Diagnostic(
                    f"{machine.name}: drive {drive.serial!r}",
                    f"no virtual {drive.bus} drive can have this serial",
                    f"at most {limit} printable characters without a slash",
                    "Shorten the serial",
                )
            )


def controllers(machine: VirtualMachine) -> Iterator[Device]:
    """Yield the devices into which the drives of *machine* are plugged: PCIe slots and adapters of eight SAS drives."""
    for number in range(len(_in_slots(machine))):
        yield {
            "driver": "pcie-root-port",
            "id": f"slot{number}",
            "bus": "pcie.0",
            "addr": f"{16 + number // 8:#x}.{number % 8}",
            "multifunction": True,
            "chassis": number + 1,
            "slot": number + 1,
        }
    for number in range(-(-len(_on_hbas(machine)) // DRIVES_PER_HBA)):
        yield {"driver": "mptsas1068", "id": f"hba{number}"}


def drive_device(machine: VirtualMachine, drive: VirtualDrive) -> Device:
    """Return the device of *drive* at its place in *machine*."""
    common = {"id": drive.id, "drive": f"{drive.id}-data", "serial": drive.serial}
    if drive.bus == "sas":
        hba, target = divmod(_on_hbas(machine).index(drive), DRIVES_PER_HBA)
        wwn = {"wwn": int(drive.wwn.removeprefix("0x"), 16)} if drive.wwn else {}
        rate = 10500 if drive.rotational else 1  # 1 means non-rotating in ATA
        return {"driver": "scsi-hd", **common, "bus": f"hba{hba}.0", "scsi-id": target, "rotation_rate": rate, **wwn}
    slot = f"slot{_in_slots(machine).index(drive)}"
    if drive.bus == "nvme":
        return {"driver": "nvme", **common, "bus": slot, "max_ioqpairs": 2}
    return {"driver": "virtio-blk-pci", **common, "bus": slot}


def disk_nodes(drive: VirtualDrive, image: Path) -> tuple[Device, Device]:
    """Return the node that writes to the image of a data drive, and the node above it, to which the device writes."""
    file = {"driver": "file", "node-name": f"{drive.id}-file", "filename": str(image), "discard": "unmap"}
    return file, disk_node(drive, f"{drive.id}-file")


def disk_node(drive: VirtualDrive, below: str) -> Device:
    """Return the node to which the device of a data drive writes.

    Args:
        below: Name of the node that writes to the image, or of a node in between that injects a fault.
    """
    return {"driver": "raw", "node-name": f"{drive.id}-data", "discard": "unmap", "file": below}


def command_line(
    machine: VirtualMachine,
    layout: Layout,
    boot: Path,
    accelerator: Accelerator,
    port: int,
    pulled_drives: frozenset[str],
) -> list[str]:
    """Return the QEMU command that runs *machine*.

    Args:
        boot: Directory with the image's kernel and initrd.
        port: Port on 127.0.0.1 that is forwarded to the guest's SSH server.
        pulled_drives: Serial numbers of the drives that are pulled out of their places.
    """
    host = machine.name
    argv = ["qemu-system-x86_64", "-name", f"twin:{host}", "-nodefaults", "-no-user-config", "-display", "none"]
    argv += ["-M", "q35,sata=off,smbus=off,i8042=off,vmport=off,hpet=off,smm=off"]
    argv += ["-m", str(machine.memory_mib), *processor(accelerator, machine.processors)]
    argv += ["-smbios", _options("type=1", manufacturer="rackwright", product="twin", serial=machine.serial)]
    argv += ["-smbios", _options("type=3", manufacturer="rackwright", serial=machine.serial)]
    if machine.uuid:
        argv += ["-uuid", machine.uuid]
    # With a TPM, QEMU 7.2 starts an ELF kernel without ACPI tables, by which the kernel would detect the TPM.
    kernel = boot / ("vmlinuz" if machine.tpm else "vmlinux")
    argv += ["-kernel", str(kernel), "-initrd", str(boot / "initrd"), "-append", KERNEL_ARGUMENTS]
    argv += ["-fw_cfg", _options("name=opt/rackwright/seed", file=layout.seed(host))]
    argv += ["-chardev", _options("file", id="console", path=layout.console(host), append="on")]
    argv += ["-serial", "chardev:console"]
    argv += ["-qmp", _options(f"unix:{layout.monitor_socket(host)}", server="on", wait="off")]

    root = machine.boot_drive
    argv += _blockdev(f"{root.id}-data", "qcow2", layout.boot_disk(host, root.serial))
    argv += _device({"driver": "virtio-blk-pci", "id": root.id, "drive": f"{root.id}-data", "serial": root.serial})
    argv += ["-netdev", f"user,id=management,hostfwd=tcp:127.0.0.1:{port}-:22"]
    argv += _device({"driver": "virtio-net-pci", "netdev": "management", "mac": MANAGEMENT_MAC, "romfile": ""})
    for number, nic in enumerate(machine.nics):
        wire = {"server": "off", "addr.type": "unix", "addr.path": layout.switch_socket}
        argv += ["-netdev", _options("stream", id=f"nic{number}", **wire)]
        card = {"driver": "virtio-net-pci", "netdev": f"nic{number}", "mac": nic.mac, "host_mtu": nic.mtu}
        argv += _device(card | {"romfile": ""})

    if machine.tpm:
        argv += ["-chardev", _options("socket", id="tpm", path=layout.tpm_socket(host))]
        argv += ["-tpmdev", "emulator,id=tpm,chardev=tpm", *_device({"driver": "tpm-tis", "tpmdev": "tpm"})]
    for controller in controllers(machine):
        argv += _device(controller)
    for drive in machine.data_drives:
        for node in disk_nodes(drive, layout.disk(host, drive.serial)):
            argv += ["-blockdev", json.dumps(node)]
        if drive.serial not in pulled_drives:
            argv += _device(drive_device(machine, drive))
    return argv


def tpm_command_line(machine: VirtualMachine, layout: Layout) -> list[str]:
    """Return the command of the TPM of *machine*. QEMU is its only client, and the TPM ends with QEMU."""
    state, socket = layout.tpm(machine.name), layout.tpm_socket(machine.name)
    argv = ["swtpm", "socket", "--tpm2", "--terminate", "--tpmstate", f"dir={state},mode=0600"]
    return [*argv, "--ctrl", f"type=unixio,path={socket},mode=0600"]


def processor(accelerator: Accelerator, count: int = 1) -> list[str]:
    """Return the options for *count* processors, native or translated."""
    if accelerator == "kvm":
        return ["-accel", "kvm", "-cpu", "host", "-smp", str(count)]
    # tb-size limits the translated code, in MiB; the default is a quarter of the memory.
    # la57 and svm only slow a guest.
    argv = ["-accel", "tcg,thread=multi,tb-size=128", "-cpu", "max,la57=off,svm=off"]
    # maxcpus=2: with a single processor, QEMU before 8.1 omits the memory barriers between a guest and the threads
    # that serve its drives and NICs, and a request may then wait for ever.
    return [*argv, "-smp", f"{count},maxcpus=2"]


def _in_slots(machine: VirtualMachine) -> list[VirtualDrive]:
    return [drive for drive in machine.data_drives if drive.bus != "sas"]


def _on_hbas(machine: VirtualMachine) -> list[VirtualDrive]:
    return [drive for drive in machine.data_drives if drive.bus == "sas"]


def _device(device: Device) -> list[str]:
    return ["-device", json.dumps(device)]


def _blockdev(name: str, form: str, path: Path) -> list[str]:
    file = {"driver": "file", "filename": str(path)}
    return ["-blockdev", json.dumps({"driver": form, "node-name": name, "discard": "unmap", "file": file})]


def _options(first: str, **rest: object) -> str:
    """Return an option list as QEMU parses it, with commas in values doubled."""
    return ",".join([first, *(f"{key}={str(value).replace(',', ',,')}" for key, value in rest.items())])
