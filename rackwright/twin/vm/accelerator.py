"""The choice of the accelerator: KVM where a guest really boots under it, translation (TCG) elsewhere."""

import subprocess
from pathlib import Path

from rackwright.progress import Progress
from rackwright.twin.layout import runtime_base
from rackwright.twin.vm.image import MachineImage
from rackwright.twin.vm.machine import Accelerator, processor

TRIAL_SECONDS = 8
"""Seconds that the trial boot may take. A boot up to the initrd takes one second under a working KVM."""


def detect(image: MachineImage, progress: Progress) -> None:
    """Report how guests run on this computer, and store the result until this computer restarts.

    An existing `/dev/kvm` is not enough: inside other virtual machines it may exist and start no guest.
    """
    if not _result_file().exists():
        _result_file().write_text("yes" if boots_under_kvm(image) else "no")
    if accelerator() == "kvm":
        progress("guests run natively, with KVM")
    else:
        progress("guests are translated (TCG), since no guest boots with KVM here: a boot takes 20 to 60 s")


def accelerator() -> Accelerator:
    """Return the accelerator of this computer that `detect` has stored."""
    return "kvm" if _result_file().read_text() == "yes" else "tcg"


def stored_accelerator() -> Accelerator | None:
    """Return the accelerator of this computer; None until `detect` has stored one since this computer started."""
    return accelerator() if _result_file().exists() else None


def _result_file() -> Path:
    boot_id = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return runtime_base() / f"kvm-{boot_id}"


def boots_under_kvm(image: MachineImage) -> bool:
    """Return whether the image's kernel starts its first process under KVM."""
    if not Path("/dev/kvm").exists():
        return False
    argv = ["qemu-system-x86_64", "-M", "q35", *processor("kvm"), "-m", "256", "-nodefaults", "-no-user-config"]
    argv += ["-display", "none", "-serial", "stdio", "-no-reboot"]
    argv += ["-kernel", str(image.directory / "vmlinux"), "-initrd", str(image.directory / "initrd")]
    argv += ["-append", "console=ttyS0 quiet panic=-1 rackwright.probe"]
    try:
        run = subprocess.run(argv, check=False, stdin=subprocess.DEVNULL, capture_output=True, timeout=TRIAL_SECONDS)
    except subprocess.TimeoutExpired:
        return False
    return b"rackwright-booted" in run.stdout
