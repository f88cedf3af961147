"""Rules about known pitfalls of GPU hosts that a host can show."""

import re
from collections.abc import Iterator

from rackwright.audit.undeclared.declaration import HostDeclaration
from rackwright.audit.undeclared.rule import ADMIT, Finding, Rule
from rackwright.facts.container import CdiSpecification
from rackwright.facts.facts import Facts

NVIDIA = "10de:"
VERSION = re.compile(r"\d{3}\.\d+(\.\d+)?")
ENGINES = ("podman", "docker.io", "docker-ce", "containerd", "containerd.io")


def _has_nvidia(facts: Facts) -> bool:
    return any(function.startswith(NVIDIA) for function in facts.pci)


def driver_mismatch(facts: Facts, declared: HostDeclaration) -> Iterator[Finding]:
    """Yield the libraries of the driver whose version is not that of the loaded module."""
    if not _has_nvidia(facts) or not (loaded := facts.module_version("nvidia")):
        return
    for name in ("libcuda.so.1", "libnvidia-ml.so.1"):
        for path in facts.library(name):
            version = VERSION.search(path.rpartition("/")[2])
            if version and version[0] != loaded:
                yield Finding(f"library:{name}", f"{path} beside the loaded module {loaded}")


def next_kernel(facts: Facts, declared: HostDeclaration) -> Iterator[Finding]:
    """Yield the added modules of the running kernel that the kernel of the next boot lacks."""
    running = facts.sysctl("kernel.osrelease") or ""
    kernels = facts.next_kernels()
    own = {module.name for module in kernels[running].modules} if running in kernels else set()
    for release, kernel in kernels.items():
        for name in sorted(own - {module.name for module in kernel.modules}):
            yield Finding(f"kernel:{release}", f"lacks the module {name}, which the running kernel has")


def nouveau(facts: Facts, declared: HostDeclaration) -> Iterator[Finding]:
    if _has_nvidia(facts) and facts.module("nouveau"):
        yield Finding("module:nouveau", "loaded on a host with NVIDIA GPUs")


def unsigned_modules(facts: Facts, declared: HostDeclaration) -> Iterator[Finding]:
    """Yield the added modules that the kernel of the next boot refuses, because they have no signature."""
    if not facts.secure_boot:
        return
    for release, kernel in facts.next_kernels().items():
        for module in kernel.modules:
            if module.signed is False:
                yield Finding(f"kernel:{release}", f"{module.name} is not signed, and Secure Boot is on")


def fabric_manager(facts: Facts, declared: HostDeclaration) -> Iterator[Finding]:
    if not _has_nvidia(facts) or not (loaded := facts.module_version("nvidia")):
        return
    for name, version in facts.packages_starting_with("nvidia-").items():
        if re.match(r"nvidia-fabric-?manager", name) and (found := VERSION.search(version)) and found[0] != loaded:
            yield Finding(f"package:{name}", f"{found[0]} beside the driver {loaded}")


def persistence(facts: Facts, declared: HostDeclaration) -> Iterator[Finding]:
    if not _has_nvidia(facts) or not facts.module("nvidia"):
        return
    unit = facts.unit("nvidia-persistenced.service")
    if unit is None or unit.active != "active":
        yield Finding("unit:nvidia-persistenced.service", "not active")


def device_names(facts: Facts, declared: HostDeclaration) -> Iterator[Finding]:
    """Yield the device nodes without the name in /dev/char by which systemd finds them for containers."""
    if not any(facts.package(name) for name in ENGINES):
        return
    for specification in facts.rows("cdi", CdiSpecification, "path"):
        if names := [path for path in specification.missing_devices if path.startswith("/dev/char/")]:
            yield Finding(f"cdi:{specification.kind}", f"without {', '.join(names)}")


def stale_superblocks(facts: Facts, declared: HostDeclaration) -> Iterator[Finding]:
    """Yield the declared drives with a superblock of an array that does not run."""
    running = {array.uuid for array in facts.arrays}
    drives = {drive.serial: drive for drive in declared.host.drives}
    for drive in facts.drives:
        listed = drives.get(drive.serial)
        superblock = drive.superblock if listed else None
        if listed and superblock and superblock.array_uuid not in running:
            found = f"a superblock of {superblock.array_name}, which does not run"
            yield Finding(f"drive:{drive.serial}", found)


def bridges(facts: Facts, declared: HostDeclaration) -> Iterator[Finding]:
    gpus = sum(function.startswith(NVIDIA) for function in facts.pci)
    if gpus > 1 and "rdma" in declared.host.roles and (redirecting := facts.redirecting_bridges):
        yield Finding("bridges", f"{', '.join(redirecting)} redirect packets between devices")


def numa_balancing(facts: Facts, declared: HostDeclaration) -> Iterator[Finding]:
    if _has_nvidia(facts) and facts.sysctl("kernel.numa_balancing") not in (None, "0"):
        yield Finding("sysctl:kernel.numa_balancing", "1")


def clock(facts: Facts, declared: HostDeclaration) -> Iterator[Finding]:
    if facts.package("chrony") and abs(offset := facts.measure("chrony.offset_seconds")) > OFFSET_SECONDS:
        yield Finding("fact:chrony.offset_seconds", f"{offset:.3f} s")


OFFSET_SECONDS = 0.05
"""Largest offset of a clock that certificates, object stores and etcd take without trouble."""


def clock_of_caller(facts: Facts, declared: HostDeclaration) -> Iterator[Finding]:
    """Yield the clock of a host that differs from the clock of the computer that read the host."""
    offset = facts.clock_offset_seconds
    if abs(offset) > CALLER_OFFSET_SECONDS:
        side = "ahead of" if offset > 0 else "behind"
        text = f"the clock of the host is {abs(round(offset, -1)):.0f} s {side} the clock of the computer that read it"
        yield Finding("fact:clock_offset_seconds", text)


CALLER_OFFSET_SECONDS = 10.0
"""Largest difference of two clocks: a third of the 30 s that a one-time password of RFC 6238 is valid."""


def dkms_leftovers(facts: Facts, declared: HostDeclaration) -> Iterator[Finding]:
    for name in facts.table("dkms"):
        versions = facts.dkms(name)
        if len(versions) > 1:
            yield Finding(f"dkms:{name}", f"has the versions {', '.join(sorted(versions))}")


RULES = (
    Rule(
        "RW-101",
        "Libraries and module of NVIDIA's driver have one version.",
        "libraries of the driver",
        "Every new process fails with `Driver/library version mismatch`, while old ones run on.",
        "Drain the host and restart it; do not reinstall the driver",
        "lyulyul/shine-cluster#30; NVIDIA/ubuntu-packaging-nvidia-driver#3",
        driver_mismatch,
        severity="error",
        scope="hardware",
    ),
    Rule(
        "RW-102",
        "The kernel of the next boot has the added modules of the running one.",
        "installed kernels",
        "After the next boot the GPUs or network cards have no driver.",
        "Install the headers of that kernel and run `dkms autoinstall -k RELEASE`, or remove the kernel",
        "NVIDIA/gpu-operator#85, #155, #526",
        next_kernel,
        severity="error",
        scope="kernel",
    ),
    Rule(
        "RW-104",
        "The module nouveau is not loaded on hosts with NVIDIA GPUs.",
        "the module nouveau",
        "It holds the GPUs, so that NVIDIA's driver cannot start.",
        "Declare role `nvidia_driver`, which blocks it, and restart the host",
        "Oneflow-Inc/oneflow#3106",
        nouveau,
        severity="error",
        scope="kernel",
    ),
    Rule(
        "RW-105",
        "With Secure Boot, added modules of the next boot's kernel are signed.",
        "signatures of modules",
        "The kernel refuses the module, so that the GPUs or network cards have no driver after the boot.",
        "Install the distribution's signed module, or sign it with a key that `mokutil --list-enrolled` shows",
        "Linux, Documentation/admin-guide/module-signing.rst; linux-surface/linux-surface#906",
        unsigned_modules,
        severity="error",
        scope="hardware",
    ),
    Rule(
        "RW-106",
        "Fabric Manager has the version of the driver.",
        "Fabric Manager",
        "Fabric Manager of another version does not start, and GPUs behind NVSwitch fail with CUDA error 802.",
        "Install the package of the driver's version",
        "NVIDIA/gpu-operator#544; Azure/azhpc-images#86",
        fabric_manager,
        severity="error",
        scope="hardware",
    ),
    Rule(
        "RW-108",
        "The persistence daemon runs on hosts with NVIDIA's driver.",
        "the persistence daemon",
        "Without it, the first process on a GPU waits for seconds, and settings are lost when the last one ends.",
        "Declare role `nvidia_driver`, or run `systemctl enable --now nvidia-persistenced`",
        "NVIDIA/nvidia-docker#723; leptonai/gpud#431",
        persistence,
        severity="notice",
        scope="hardware",
    ),
    Rule(
        "RW-113",
        "Each device of a CDI specification has its name in /dev/char.",
        "devices for containers",
        "The next `systemctl daemon-reload` takes the GPUs from running containers.",
        "Run `nvidia-ctk system create-dev-char-symlinks --create-all`",
        "NVIDIA/nvidia-container-toolkit#48",
        device_names,
        scope="hardware",
    ),
    Rule(
        "RW-115",
        "No declared drive has the superblock of an array that does not run.",
        "superblocks",
        "At a boot such a drive may start an array of its own, degraded and with old data.",
        f"Look at the drive with `mdadm --examine`, then wipe it by the consent of its tier, {ADMIT}",
        "siderolabs/talos#13786",
        stale_superblocks,
        scope="kernel",
    ),
    Rule(
        "RW-121",
        "PCI bridges do not redirect packets between GPUs and network cards.",
        "PCI bridges",
        "Transfers between GPUs hang, or take the way over the processor.",
        "Declare `acs: off` of role `rdma`, unless the host passes devices to virtual machines",
        "NVIDIA/nccl#2079, #603; NVIDIA/nccl-tests#115",
        bridges,
        scope="hardware",
    ),
    Rule(
        "RW-124",
        "The kernel does not balance memory between NUMA nodes on GPU hosts.",
        "balancing of NUMA nodes",
        "It stops threads for milliseconds, and each collective waits for the slowest one.",
        "Set `kernel.numa_balancing: 0` among the sysctls of role `base`",
        "deepseek-ai/DeepEP#644; vllm-project/vllm#13855",
        numa_balancing,
        severity="notice",
        scope="kernel",
    ),
    Rule(
        "RW-125",
        "The clock is at most 50 ms off.",
        "the clock",
        "Certificates are not yet valid, object stores refuse signatures, and logs have a wrong order.",
        "Check `chronyc tracking`, and the servers in role `base`",
        "minio/docs#778; rook/rook#2286",
        clock,
        scope="hardware",
    ),
    Rule(
        "RW-130",
        "The clock differs by at most 10 s from the clock of the computer that reads the host.",
        "the clock",
        "One-time passwords and certificates are refused, and times in reports and logs are wrong.",
        "Compare `date -u` on both: set the wrong clock, and check the time servers of that computer",
        "RFC 6238, section 5.2; minio/docs#778",
        clock_of_caller,
        scope="kernel",
    ),
    Rule(
        "RW-126",
        "DKMS has one version of each module.",
        "modules of DKMS",
        "The old version blocks an upgrade, or is built in place of the new one.",
        "Run `dkms remove MODULE/VERSION --all` for the old version",
        "ROCm/ROCm#3701, #1658",
        dkms_leftovers,
    ),
)
