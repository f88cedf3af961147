"""KVM where a guest really boots under it, translation elsewhere."""

import subprocess
from pathlib import Path

from rackwright.progress import Progress
from rackwright.twin.layout import runtime_base
from rackwright.twin.vm.image import Image
from rackwright.twin.vm.machine import Accelerator, processor

TRIAL_SECONDS = 8
"""A boot as far as the initrd takes one second under a KVM that works."""


def find_out(image: Image, progress: Progress) -> None:
    """Say how guests run on this computer, and remember it for this boot of it.

    That `/dev/kvm` exists is not enough: inside other virtual machines it may be there and start nothing.
    """
    if not _memory().exists():
        _memory().write_text("yes" if boots_under_kvm(image) else "no")
    if accelerator() == "kvm":
        progress("guests run natively, by KVM")
    else:
        progress("guests are translated (TCG), since none boots by KVM here: expect 20 to 60 s a boot")


def accelerator() -> Accelerator:
    """Return how guests run on this computer, as it was found out."""
    return "kvm" if _memory().read_text() == "yes" else "tcg"


def _memory() -> Path:
    boot_id = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return runtime_base() / f"kvm-{boot_id}"


def boots_under_kvm(image: Image) -> bool:
    """Start the image's kernel under KVM and see whether its first process comes to speak."""
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
