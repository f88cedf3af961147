"""Rules about the kernel: its modules, its parameters, and the files with its settings."""

import re
from collections.abc import Iterator

from rackwright.audit.undeclared.declaration import HostDeclaration
from rackwright.audit.undeclared.paths import files_in
from rackwright.audit.undeclared.rule import ADMIT, Finding, Rule
from rackwright.facts.facts import Facts

SETTINGS = (
    "/etc/sysctl.conf",
    *(
        f"{top}/{name}"
        for top in ("/etc", "/usr/local/lib", "/usr/lib")
        for name in ("sysctl.d", "modprobe.d", "modules-load.d", "tmpfiles.d")
    ),
)
DEVICE_SETTINGS = ("/etc/udev/rules.d", "/etc/udev/hwdb.d", "/usr/local/lib/udev", "/usr/lib/udev/rules.d")
BOOT_LOADER = re.compile(r"(BOOT_IMAGE|root|initrd|rootflags|rootfstype)=|r[ow]$")
"""Words that the boot loader adds by itself. Source: GRUB, util/grub.d/10_linux.in."""
OUT_OF_TREE = "O"


def modules(facts: Facts, declared: HostDeclaration) -> Iterator[Finding]:
    """Yield the modules that are not part of the kernel, except those of a declared driver."""
    claimed = tuple(name for sort in ("module", "built_module", "dkms") for name in declared.names(sort))
    prefixes = tuple(re.split(r"[-_]", name)[0] for name in claimed)
    for name, flags in facts.module_taints().items():
        if OUT_OF_TREE in flags and not (prefixes and name.startswith(prefixes)):
            yield Finding(f"module:{name}", f"loaded, flags {flags}")


def parameters(facts: Facts, declared: HostDeclaration) -> Iterator[Finding]:
    """Yield the words of the command line that neither the boot loader nor a packaged or declared file adds."""
    changed = facts.changed_conffiles
    expected = set(declared.names("kernel_parameter"))
    unpackaged = set(facts.unpackaged)
    for path, words in facts.grub_parameters().items():
        if declared.declares_path(path) or (path not in changed and path not in unpackaged):
            expected.update(words)
    for word in facts.kernel_parameters:
        if word not in expected and not BOOT_LOADER.match(word):
            yield Finding(f"kernel_parameter:{word}", "on the command line of the running kernel")


def settings(facts: Facts, declared: HostDeclaration) -> Iterator[Finding]:
    yield from files_in(facts, declared, *SETTINGS)


def device_settings(facts: Facts, declared: HostDeclaration) -> Iterator[Finding]:
    yield from files_in(facts, declared, *DEVICE_SETTINGS)


RULES = (
    Rule(
        "RW-040",
        "Each module outside the kernel's own belongs to a declared driver.",
        "kernel modules",
        "Such a module runs with all rights of the kernel, and may break at the next upgrade.",
        f"Unload the module and remove its package, declare its role, {ADMIT}",
        "Linux, Documentation/admin-guide/tainted-kernels.rst",
        modules,
        scope="kernel",
    ),
    Rule(
        "RW-041",
        "Each kernel parameter comes from a packaged or a declared file.",
        "kernel parameters",
        "A parameter can switch off mitigations, the IOMMU or the audit of the kernel.",
        f"Remove the parameter from /etc/default/grub, run `update-grub` and restart, {ADMIT}",
        "Linux, Documentation/admin-guide/kernel-parameters.rst",
        parameters,
        scope="hardware",
    ),
    Rule(
        "RW-042",
        "The settings of the kernel are those of packages and resources.",
        "settings of the kernel",
        "Such a file changes limits, networks or modules at the next boot.",
        f"Remove the file or restore the packaged one, {ADMIT}",
        "sysctl.d(5); modprobe.d(5); modules-load.d(5); tmpfiles.d(5)",
        settings,
    ),
    Rule(
        "RW-043",
        "The rules of udev are those of packages and resources.",
        "rules of udev",
        "Such a rule renames devices, changes their rights, or runs a program when one appears.",
        f"Remove the file or restore the packaged one, {ADMIT}",
        "udev(7)",
        device_settings,
    ),
)
