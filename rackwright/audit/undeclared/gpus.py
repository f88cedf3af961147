"""Rules about NVIDIA GPUs: sort of the driver, NVSwitch, modes that wait for a reset, and virtual machines."""

from collections.abc import Iterator

from rackwright.audit.undeclared.declaration import HostDeclaration
from rackwright.audit.undeclared.rule import Finding, Rule
from rackwright.facts.facts import Facts
from rackwright.schema.catalogue import ARCHITECTURES, GPUS

NVIDIA = "10de:"
NVSWITCHES = ("10de:1ac2", "10de:1af1", "10de:22a3")
"""NVSwitches of V100, A100 and H100; later ones are no PCI devices of their own. Source: pci.ids."""
PROPRIETARY = "P"
"""Flag of a module with a proprietary licence. Source: Linux, Documentation/admin-guide/tainted-kernels.rst."""
FABRIC_MANAGER = "nvidia-fabricmanager.service"
RESERVED = "vfio-pci.ids="


def _has_driver(facts: Facts) -> bool:
    return any(function.startswith(NVIDIA) for function in facts.pci) and facts.module("nvidia")


def flavour(facts: Facts, declared: HostDeclaration) -> Iterator[Finding]:
    """Yield the loaded module of NVIDIA if it does not support a GPU of the host."""
    if not _has_driver(facts):
        return
    loaded = "proprietary" if PROPRIETARY in facts.module_taints().get("nvidia", "") else "open"
    for gpu in GPUS.values():
        supported = ARCHITECTURES[gpu.architecture].verified_value("flavours")
        if supported and loaded not in supported and {*gpu.pci} & {*facts.pci}:
            yield Finding("module:nvidia", f"{loaded}, and {gpu.name} needs {' or '.join(supported)}")


def fabric(facts: Facts, declared: HostDeclaration) -> Iterator[Finding]:
    """Yield Fabric Manager where it does not run beside NVSwitches."""
    if not {*NVSWITCHES} & {*facts.pci} or not _has_driver(facts):
        return
    unit = facts.unit(FABRIC_MANAGER)
    if unit is None or unit.active != "active":
        yield Finding(f"unit:{FABRIC_MANAGER}", f"{unit.active if unit else 'absent'} on a host with NVSwitch")


def waiting_modes(facts: Facts, declared: HostDeclaration) -> Iterator[Finding]:
    """Yield the modes of GPUs that were set and wait for a reset."""
    if not _has_driver(facts):
        return
    for gpu in facts.gpus:
        for name, current, pending in (("MIG", gpu.mig, gpu.mig_pending), ("ECC", gpu.ecc, gpu.ecc_pending)):
            if current != pending:
                yield Finding(f"gpu:{gpu.uuid}", f"{name} is {_switch(current)}, and {_switch(pending)} after a reset")


def _switch(value: bool | None) -> str:
    return {True: "on", False: "off", None: "not supported"}[value]


def gpus_without_instances(facts: Facts, declared: HostDeclaration) -> Iterator[Finding]:
    """Yield the GPUs that have MIG switched on, and no instance."""
    if not _has_driver(facts):
        return
    for gpu in facts.gpus:
        if gpu.mig and not gpu.mig_instances:
            yield Finding(f"gpu:{gpu.uuid}", "MIG is on without an instance")


def reserving_parameters(facts: Facts, declared: HostDeclaration) -> Iterator[Finding]:
    """Yield the kernel parameters that reserve GPUs for virtual machines on hosts with NVIDIA's driver."""
    if "nvidia_driver" not in declared.host.roles and not _has_driver(facts):
        return
    for word in facts.kernel_parameters:
        if word.startswith(RESERVED) and "10de:" in word:
            yield Finding(f"kernel_parameter:{word}", "gives GPUs to virtual machines")


RULES = (
    Rule(
        "RW-103",
        "NVIDIA's kernel module is of the sort that the host's GPUs support.",
        "the sort of NVIDIA's module",
        "The driver loads without an error, and reports that there are no devices.",
        "Declare `flavour` of role `nvidia_driver` as the GPU needs it",
        "NVIDIA Technical Blog, 17 July 2024, on open kernel modules",
        flavour,
        severity="error",
        scope="hardware",
    ),
    Rule(
        "RW-107",
        "Fabric Manager runs on hosts with NVSwitch.",
        "Fabric Manager's service",
        "CUDA programs fail with error 802, while nvidia-smi looks fine.",
        "Declare `fabric_manager: on` of role `nvidia_driver`, or start the service",
        "NVIDIA Fabric Manager User Guide; siderolabs/extensions#717",
        fabric,
        severity="error",
        scope="hardware",
    ),
    Rule(
        "RW-109",
        "No mode of a GPU waits for a reset.",
        "modes of GPUs",
        "The next reset or restart divides the GPU, or takes its instances away.",
        "Drain the host, then reset the GPU with `nvidia-smi --gpu-reset`, or set the mode back",
        "NVIDIA/mig-parted#181, #357",
        waiting_modes,
        scope="hardware",
    ),
    Rule(
        "RW-110",
        "No GPU is reserved for virtual machines on a host with NVIDIA's driver.",
        "reserved GPUs",
        "The driver does not see the GPU, and a virtual machine that has it cannot reset it.",
        "Remove the parameter from /etc/default/grub, run `update-grub` and restart",
        "kubernetes-sigs/dra-driver-nvidia-gpu#1006; NVIDIA/gpu-operator#1606",
        reserving_parameters,
        scope="hardware",
    ),
    Rule(
        "RW-111",
        "A GPU with MIG has instances.",
        "instances of GPUs",
        "Programs find no device: instances vanish at each restart, and on some GPUs the mode stays.",
        "Declare the partitions of the GPU, or switch MIG off with `nvidia-smi --multi-instance-gpu=0`",
        "NVIDIA MIG User Guide, Persistence; NVIDIA/k8s-device-plugin#225",
        gpus_without_instances,
        severity="error",
        scope="hardware",
    ),
)
