"""Checks of this computer: each feature of rackwright is ready or lacks something. They change nothing."""

import contextlib
import os
import shutil
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from rackwright import extras, locations
from rackwright.errors import UserError
from rackwright.stack import load_stack
from rackwright.stack.settings import CONTAINERS, settings_source
from rackwright.toolchain import cache, choose, workloads
from rackwright.twin.container.backend import kernel_problems
from rackwright.twin.fleet import containers_of
from rackwright.twin.vm import accelerator

State = Literal["ready", "later", "limited", "missing"]
FOLDER = Path(choose.__file__).parent
LISTS = (FOLDER / "packages.debian.txt", FOLDER / "packages.workloads.debian.txt")
"""Lists of packages; a line ``## FEATURE`` begins the packages of a feature."""
GIB = 1 << 30
TWIN_GIB = 10
"""Free space that the image of a twin and its disks need, in GiB."""


@dataclass(frozen=True)
class Check:
    """The result for one feature."""

    feature: str
    """Name of the feature."""
    state: State
    """`later`: the first command that needs the feature prepares it; `limited`: it works, but not in full."""
    details: str
    """The parts that this computer has or lacks."""
    help: str = ""
    """The remedy, as an imperative sentence; empty if nothing is to be done."""


def checks() -> list[Check]:
    """Return the state of each feature on this computer."""
    missing = missing_packages()
    return [
        _packages("checkout and fleets", missing["command line"], f"Python {sys.version.split()[0]}"),
        _pulumi(),
        _extra("object stores", extras.S3, "fleets with buckets need"),
        _extra("masking", extras.MASKING, "`rackwright mask` needs"),
        _extra("dashboards", extras.DASHBOARDS, "`rackwright dashboards` needs"),
        _packages("lock of packages", missing["lock"], "gpg"),
        _packages("twin", missing["twin"], "QEMU, systemd-nspawn and the tools for images"),
        *_containers(),
        _acceleration(),
        _space(),
        _environment("training and quantization", missing["workloads"], workloads.training_directory() / "ready"),
    ]


def missing_packages(lists: Sequence[Path] = LISTS) -> Mapping[str, list[str]]:
    """Return the packages of *lists* that this computer lacks, by feature."""
    missing: dict[str, list[str]] = defaultdict(list)
    for path in lists:
        feature, lacking = "", _missing_of(path)
        for line in path.read_text().splitlines():
            if line.startswith("## "):
                feature = line[3:].strip()
            elif line and not line.startswith("#"):
                package = line.split()[0]
                if package in lacking:
                    missing[feature].append(package)
    return missing


def _missing_of(path: Path) -> list[str]:
    """Return the missing packages of the list *path*, as the script finds them that installs them."""
    argv = ["/bin/sh", str(FOLDER / "system.sh"), "--missing", str(path)]
    return subprocess.run(argv, stdout=subprocess.PIPE, text=True, check=True).stdout.split()


def _packages(feature: str, missing: Sequence[str], found: str) -> Check:
    if not missing:
        return Check(feature, "ready", found)
    install = f"apt-get install --no-install-recommends {' '.join(missing)}"
    return Check(feature, "missing", f"no {', '.join(missing)}", f"Run as root: {install}")


def _pulumi() -> Check:
    if (found := choose.find()) is not None:
        return Check("preview, up and destroy", "ready", f"pulumi {found.version} ({found.origin})")
    if shutil.which("go"):
        how = "the first command downloads pulumi, or builds it with Go, which takes minutes"
    else:
        how = "the first command downloads pulumi; without the internet that needs Go 1.21 or newer"
    return Check(
        "preview, up and destroy", "later", f"no pulumi: {how}", "Run `rackwright toolchain` to prepare it now"
    )


def _extra(feature: str, extra: extras.Extra, need: str) -> Check:
    """Return whether the library *extra* is installed; *need* ends the sentence "which …"."""
    if extra.is_installed:
        return Check(feature, "ready", extra.package)
    return Check(feature, "later", f"no {extra.package}, which {need}", extra.help)


def _acceleration() -> Check:
    device, feature = Path("/dev/kvm"), "fast virtual machines"
    stored = accelerator.stored_accelerator()
    if stored == "kvm":
        return Check(feature, "ready", "KVM")
    if stored == "tcg" and device.exists():
        return Check(feature, "limited", "no guest boots with /dev/kvm here; QEMU translates, which is slow")
    if os.access(device, os.R_OK | os.W_OK):
        return Check(feature, "later", "/dev/kvm exists; the first start of a twin tries a guest with it")
    if device.exists():
        help = "Add your account to the group kvm: usermod --append --groups kvm ACCOUNT"
        return Check(feature, "limited", "your account cannot use /dev/kvm; QEMU translates, which is slow", help)
    help = "Enable virtualization in the firmware, or use hosts that are containers"
    return Check(feature, "limited", "no /dev/kvm; QEMU translates, which is slow", help)


def _containers() -> Iterator[Check]:
    """Yield what the kernel lacks for the containers of each twin of the project, as `twin start` finds it."""
    project = locations.find_project(Path.cwd())
    if project is None or os.geteuid() != 0:  # other accounts have no containers
        return
    for name in locations.stack_names(project):
        with contextlib.suppress(UserError):  # `check` reports the errors of a stack
            if CONTAINERS not in (settings_source(name, project).data.get("config") or {}):
                continue  # a stack that uses the hosts of another one takes long to load, and has no settings of hosts
            stack = load_stack(name, project)
            for problem in kernel_problems(containers_of(stack.fleet, stack.containers)):
                found = f"{problem.where}: {problem.problem}"
                yield Check(f"containers of stack {name}", "limited", found, problem.help)


def _space() -> Check:
    place = next(path for path in (cache.directory(), *cache.directory().parents) if path.exists())
    free = shutil.disk_usage(place).free / GIB
    found = f"{free:.0f} GiB free for {cache.directory()}"
    if free >= TWIN_GIB:
        return Check("space for images", "ready", found)
    return Check(
        "space for images", "missing", found, f"Free {TWIN_GIB} GiB, or set RACKWRIGHT_CACHE to another directory"
    )


def _environment(feature: str, missing: Sequence[str], ready: Path) -> Check:
    if ready.exists():
        return Check(feature, "ready", "PyTorch and the workloads' packages are installed")
    if missing:
        return _packages(feature, missing, "")
    found = "not installed: 3 GB to fetch, 5 GB on the drive"
    return Check(feature, "later", found, "Run `rackwright toolchain workloads` to prepare it now")
