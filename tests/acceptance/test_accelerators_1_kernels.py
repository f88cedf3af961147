"""Line 1, two more sentences: how far a kernel takes the module without a GPU, and the packages of Debian 13."""

import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from rackwright.twin.image import mirrors, network_settings
from tests.support.acceptance import line
from tests.support.expect import need
from tests.support.gpu_lab import HOST, lab
from tests.support.lab import Lab
from tests.support.log import ROOT, Log

MACHINE = "beta"
VERSION, KERNEL = "535.309.01", "6.1.0-56-amd64"
"""The set whose kernel is the one that virtual machines start with."""
MODULE = f"/lib/modules/{KERNEL}/updates/dkms/nvidia-current.ko"
LOAD = """
for each in $(modinfo -F depends /root/nvidia.ko | tr , ' '); do modprobe $each; done
dmesg --clear
insmod /root/nvidia.ko 2>&1 || true
dmesg --notime | grep -e NVRM -e nvidia-nvlink | head -n 4
"""

SUITE = "trixie"
COMPONENTS = "main contrib non-free non-free-firmware"
FLAVOURS = {"nvidia-current": "nvidia-kernel-dkms", "nvidia-current-open": "nvidia-open-kernel-dkms"}
"""By DKMS's name of a module the package that brings it."""
INSIDE = 'mount -t proc proc "$1/proc" && cd / && exec chroot "$1" sh -e -c "$2"'
DOWNLOAD = f'cd "$1/root" && APT_CONFIG="$MMDEBSTRAP_APT_CONFIG" apt-get -qq download {" ".join(FLAVOURS.values())}'
"""Before the lists of packages are cleaned away."""
BUILD = """
cd /root
version=$(dpkg-deb -f {package}_*.deb Version)
sh /root/dkms.sh build {module} "${{version%-*}}" {package}_*.deb "$(ls /lib/modules)" 2>&1 | sed 's/ (all of it: .*//'
"""


@line("accelerators", 1, part="module")
def test_a_kernel_loads_the_module_as_far_as_it_can_without_a_gpu(log: Log) -> str:
    with lab(log, machines=[MACHINE], version=VERSION) as two:
        two.start()
        log(f"up: {HOST} builds the module for {KERNEL}")
        two.up()
        runs = two.ssh(MACHINE, "uname -r")
        need(runs == KERNEL, f"{MACHINE} runs {runs}: there is no module for it")
        log(f"{MACHINE} gets the module")
        _copied(two, MODULE, "/root/nvidia.ko")
        output = two.ssh(MACHINE, LOAD).splitlines()
        need(any("NVRM" in line for line in output), f"the module's own code did not run: {output}")
        return f"{VERSION} under {KERNEL} without a GPU: {' / '.join(output)}"


def _copied(lab: Lab, path: str, to: str) -> None:
    """Copy a file from the host that built it to the other one; it is too long for a log."""
    with subprocess.Popen(lab.twin.ssh(HOST, f"cat {path}"), stdout=subprocess.PIPE) as source:
        argv = lab.twin.ssh(MACHINE, f"sudo -n tee {to} >/dev/null")
        need(subprocess.run(argv, stdin=source.stdout).returncode == 0, f"{to} could not be written")
    need(source.returncode == 0, f"{path} could not be read")


@line("accelerators", 1, part="debian-13")
def test_packages_of_debian_13_are_reported_without_a_verdict(log: Log) -> str:
    """No verdict: it prints what Debian's own packages come to today."""
    if os.geteuid() != 0:
        pytest.skip("only root can make a root directory of its own")
    root = log.empty_directory() / "root"
    log(f"a fresh Debian ({SUITE}) with a kernel's headers")
    settings = [f"--aptopt={line}" for line in network_settings()]
    options = ["--mode=root", "--variant=apt", "--include=dkms,linux-headers-amd64,linux-image-amd64"]
    options.append(f"--customize-hook={DOWNLOAD}")
    environment = os.environ | {"INITRD": "No"}
    made = log.run(["mmdebstrap", *options, *settings, SUITE, str(root), *mirrors(SUITE, COMPONENTS)], env=environment)
    need(made.returncode == 0, "mmdebstrap failed")
    shutil.copy(ROOT / "roles/nvidia_driver/files/dkms.sh", root / "root")
    lines = []
    for module, package in FLAVOURS.items():
        log(f"{package} is built")
        script = BUILD.format(module=module, package=package)
        lines.append(f"{package}: {_inside(log, root, script).strip().splitlines()[-1]}")
    shutil.rmtree(root)
    return "; ".join(lines)


def _inside(log: Log, root: Path, script: str) -> str:
    """Run *script* in *root* with processes of its own, and return its output."""
    argv: Sequence[str] = ["unshare", "--mount", "--pid", "--fork", "sh", "-e", "-c", INSIDE, "sh", str(root), script]
    done = log.run(argv)
    return done.stdout or done.stderr or f"it ended with {done.returncode}"
